#include "operator/kube/streams.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/base/strbuf.h"

#define CONNECT_MS 5000
#define KEEPALIVE_S 30
#define HEADER_MAX (1u << 20)

struct kb_streams {
    CURLM *multi;
    kb_stream *open; /* a list */
};

struct kb_stream {
    kb_stream_options options; /* login and texts are not kept */
    CURL *easy;
    struct curl_slist *headers;
    kb_error error; /* of on_data */
    char text[CURL_ERROR_SIZE];
    kb_stream *previous, *next;
};

kb_code kb_streams_new(kb_streams **ret_streams, kb_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return kb_fail(err, KB_ERR_INTERNAL, "the HTTP library does not start");
    kb_streams *streams = kb_calloc(1, sizeof *streams);
    streams->multi = curl_multi_init();
    if (streams->multi == NULL)
        kb_out_of_memory();
    *ret_streams = streams;
    return KB_OK;
}

static void wipe_list(struct curl_slist *list)
{
    for (struct curl_slist *item = list; item != NULL; item = item->next)
        kb_wipe(item->data, strlen(item->data));
    curl_slist_free_all(list);
}

static void unlink_stream(kb_streams *streams, kb_stream *stream)
{
    if (stream->previous != NULL)
        stream->previous->next = stream->next;
    else
        streams->open = stream->next;
    if (stream->next != NULL)
        stream->next->previous = stream->previous;
}

void kb_streams_close(kb_streams *streams, kb_stream *owned_stream)
{
    if (owned_stream == NULL)
        return;
    unlink_stream(streams, owned_stream);
    curl_multi_remove_handle(streams->multi, owned_stream->easy);
    curl_easy_cleanup(owned_stream->easy);
    wipe_list(owned_stream->headers);
    kb_error_done(&owned_stream->error);
    free(owned_stream);
}

void kb_streams_free(kb_streams *owned_streams)
{
    if (owned_streams == NULL)
        return;
    while (owned_streams->open != NULL)
        kb_streams_close(owned_streams, owned_streams->open);
    curl_multi_cleanup(owned_streams->multi);
    free(owned_streams);
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    kb_stream *stream = ctx;
    long status = 0;
    curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    const kb_view part = kb_view_of(data, size * count);
    const kb_code code = stream->options.on_data(stream->options.ctx, (int)status, part, &stream->error);
    return code == KB_OK ? part.len : CURL_WRITEFUNC_ERROR;
}

static void add_header(kb_stream *stream, const char *text)
{
    struct curl_slist *longer = curl_slist_append(stream->headers, text);
    if (longer == NULL)
        kb_out_of_memory();
    stream->headers = longer;
}

static void set_headers(kb_stream *stream, const kb_kube_login *login)
{
    add_header(stream, "Accept: application/json");
    if (login->token != NULL) {
        KB_AUTO_STRBUF(line, HEADER_MAX);
        kb_strbuf_appends(&line, "Authorization: Bearer ");
        kb_strbuf_append(&line, kb_secret_view(login->token), kb_secret_len(login->token));
        add_header(stream, kb_strbuf_view(&line));
        kb_wipe(line.data, line.len);
    }
    curl_easy_setopt(stream->easy, CURLOPT_HTTPHEADER, stream->headers);
}

static void set_trust(CURL *easy, const kb_kube_login *login)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (login->ca.len > 0) {
        struct curl_blob pem = {
            .data = (void *)(uintptr_t)login->ca.data, .len = login->ca.len, .flags = CURL_BLOB_COPY};
        curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &pem);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (login->client_cert_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, login->client_cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, login->client_key_file);
    }
    const bool is_plain = strncasecmp(login->server, "http://", 7) == 0;
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, is_plain ? "http" : "https");
}

static void set_options(kb_stream *stream, const kb_stream_options *options, const char *url)
{
    CURL *easy = stream->easy;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, options->user_agent);
    /* A stream of its own for each watch: one that stops flowing does not hold up the others. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)options->max_ms);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, stream);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, stream);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, stream->text);
}

kb_code kb_streams_open(kb_streams *streams, const kb_stream_options *options, kb_stream **ret_stream,
                        kb_error *err)
{
    kb_stream *stream = kb_calloc(1, sizeof *stream);
    stream->options = *options;
    stream->easy = curl_easy_init();
    if (stream->easy == NULL)
        kb_out_of_memory();
    KB_AUTOFREE char *url = kb_asprintf("%s%s", options->login->server, options->target);
    set_options(stream, options, url);
    set_trust(stream->easy, options->login);
    set_headers(stream, options->login);
    stream->next = streams->open;
    if (stream->next != NULL)
        stream->next->previous = stream;
    streams->open = stream;
    const CURLMcode result = curl_multi_add_handle(streams->multi, stream->easy);
    if (result != CURLM_OK) {
        kb_streams_close(streams, stream);
        return kb_fail(err, KB_ERR_INTERNAL, "cannot begin a stream: %s", curl_multi_strerror(result));
    }
    *ret_stream = stream;
    return KB_OK;
}

static int64_t retry_after_ms(CURL *easy)
{
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds) != CURLE_OK || seconds <= 0)
        return 0;
    return (int64_t)(seconds < 3600 ? seconds : 3600) * 1000;
}

static void finish(kb_streams *streams, kb_stream *stream, CURLcode result)
{
    const kb_stream_options options = stream->options;
    long status = 0;
    curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    const char *text = kb_error_text(&stream->error);
    if (text[0] == '\0')
        text = stream->text[0] != '\0' ? stream->text : curl_easy_strerror(result);
    KB_AUTOFREE char *copy = kb_strdup(result == CURLE_OK ? "" : text);
    const kb_stream_end end = {.http_status = (int)status,
                               .is_complete = result == CURLE_OK,
                               .error = copy,
                               .retry_after_ms = retry_after_ms(stream->easy)};
    kb_streams_close(streams, stream);
    options.on_end(options.ctx, &end);
}

/* True when a stream ended: its owner may have something to do at once. */
static bool finish_all(kb_streams *streams)
{
    bool has_ended = false;
    int left = 0;
    for (const CURLMsg *message = curl_multi_info_read(streams->multi, &left); message != NULL;
         message = curl_multi_info_read(streams->multi, &left)) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *stream = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &stream);
        finish(streams, (kb_stream *)(void *)stream, message->data.result);
        has_ended = true;
    }
    return has_ended;
}

kb_code kb_streams_run(kb_streams *streams, int64_t wait_ms, kb_error *err)
{
    int running = 0;
    CURLMcode result = curl_multi_perform(streams->multi, &running);
    if (result == CURLM_OK && finish_all(streams))
        return KB_OK;
    if (result == CURLM_OK)
        result = curl_multi_poll(streams->multi, NULL, 0, (int)(wait_ms > 0 ? wait_ms : 0), NULL);
    if (result == CURLM_OK)
        result = curl_multi_perform(streams->multi, &running);
    if (result != CURLM_OK)
        return kb_fail(err, KB_ERR_INTERNAL, "the streams cannot go on: %s", curl_multi_strerror(result));
    (void)finish_all(streams);
    return KB_OK;
}

void kb_streams_wake(kb_streams *streams)
{
    (void)curl_multi_wakeup(streams->multi);
}
