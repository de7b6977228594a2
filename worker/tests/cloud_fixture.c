#include "worker/tests/cloud_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

kb_store_net *cloud_net(void)
{
    KB_AUTO_ERROR(err);
    kb_store_net *net = NULL;
    const kb_store_net_options options = {
        .allow_http = true,
        .breaker = {.failure_threshold = 1000, .reset_timeout_ms = 1, .success_threshold = 1},
    };
    if (kb_store_net_new(&options, &net, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return net;
}

char *cloud_reply(const char *status, const char *headers, const char *body)
{
    return kb_asprintf("HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers, strlen(body), body);
}

void cloud_expect(kb_http_script *script, unsigned n, const char *const *texts)
{
    const char *request = kb_http_script_request(script, n);
    for (size_t i = 0; texts[i] != NULL; i++) {
        if (strstr(request, texts[i]) == NULL)
            fail_msg("request %u lacks '%s':\n%s", n, texts[i], request);
    }
}
