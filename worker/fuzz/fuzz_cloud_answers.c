/* Fuzzes what the token endpoints and stores of Azure and Google answer, and the files that name them. The
 * first byte picks the reader. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/auth/azure_connection.h"
#include "worker/auth/gcp_account.h"
#include "worker/auth/oauth.h"
#include "worker/storage/azure_list.h"
#include "worker/storage/gcs_json.h"
#include "worker/storage/object_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever key a listing shows has to lead back to a name. */
static void check_page(kb_list_page *page, const char *prefix)
{
    for (size_t i = 0; i < page->count; i++) {
        const char *key = page->entries[i].key;
        KB_AUTOFREE char *name = kb_object_name_prefix(prefix, key);
        KB_AUTOFREE char *again = kb_object_key(prefix, name);
        if (again == NULL || strcmp(again, key) != 0)
            abort();
        if (i > 0 && strcmp(page->entries[i - 1].key, key) > 0)
            abort();
    }
    kb_list_page_done(page);
}

static void read_tokens(kb_view text)
{
    KB_AUTO_ERROR(err);
    kb_oauth_token token = {NULL, 0};
    char refusal[KB_OAUTH_REFUSAL_SIZE], reason[KB_GCS_REASON_SIZE];
    kb_oauth_refusal(text, refusal);
    kb_gcs_reason(text, reason);
    if (strlen(refusal) >= sizeof refusal || strlen(reason) >= sizeof reason)
        abort();
    if (kb_oauth_parse(text, 1700000000000, &token, &err) == KB_OK &&
        !kb_oauth_is_token(kb_secret_view(token.token), kb_secret_len(token.token)))
        abort();
    kb_secret_free(token.token);
}

static void read_files(kb_view text)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_gcp_account_done) kb_gcp_account account = {.is_external = false};
    KB_CLEANUP(kb_azure_connection_done) kb_azure_connection connection = KB_AZURE_CONNECTION_INIT;
    KB_CLEANUP(kb_secret_free_at) kb_secret *subject = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *copy = kb_secret_new(text.data, text.len);
    if (kb_gcp_account_parse(text, false, &account, &err) == KB_OK && !account.is_external &&
        (account.client_email == NULL || !kb_oauth_is_safe_url(account.token_uri, false)))
        abort();
    (void)!kb_gcp_subject_token(text, "t", &subject, &err);
    (void)!kb_azure_connection_parse(copy, &connection, &err);
}

static void read_objects(kb_view text)
{
    KB_AUTO_ERROR(err);
    kb_gcs_object object = {.md5 = ""};
    bool hides = false;
    (void)!kb_gcs_object_parse(text, &object, &err);
    (void)!kb_gcs_bucket_hides(text, &hides, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const prefixes[] = {NULL, "p"};
    if (size == 0)
        return 0;
    KB_AUTO_ERROR(err);
    kb_list_page page = KB_LIST_PAGE_INIT;
    const char *prefix = prefixes[data[0] / 8 % 2];
    kb_view text = {data + 1, size - 1};
    switch (data[0] % 5) {
    case 0:
        read_tokens(text);
        break;
    case 1:
        read_files(text);
        break;
    case 2:
        read_objects(text);
        break;
    case 3:
        if (kb_gcs_list_parse(text, prefix, &page, &err) == KB_OK)
            check_page(&page, prefix);
        break;
    default:
        if (kb_azure_list_parse((const char *)text.data, text.len, prefix, &page, &err) == KB_OK)
            check_page(&page, prefix);
    }
    return 0;
}
