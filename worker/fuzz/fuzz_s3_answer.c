/* Fuzzes what S3 servers and sources of AWS credentials answer: listings, errors, JSON, XML, profiles. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/auth/aws_cred_parse.h"
#include "worker/storage/s3_errors.h"
#include "worker/storage/s3_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_creds(const char *text, size_t size)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *json = NULL;
    KB_CLEANUP(kb_cred_unref_at) kb_cred *xml = NULL;
    KB_CLEANUP(kb_cred_unref_at) kb_cred *profile = NULL;
    if (kb_aws_parse_json(text, size, "fuzz", &json, &err) == KB_OK && kb_cred_view(json)->id[0] == '\0')
        abort();
    if (kb_aws_parse_sts(text, size, &xml, &err) == KB_OK && kb_cred_view(xml)->token == NULL)
        abort();
    if (kb_aws_parse_profile(text, size, "default", &profile, &err) == KB_OK &&
        kb_cred_view(profile)->secret == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *text = kb_strndup((const char *)data, size);
    size = strlen(text);
    KB_CLEANUP(kb_s3_listing_done) kb_s3_listing listing = {0};
    if (kb_s3_listing_parse(text, size, &listing, &err) == KB_OK) {
        for (size_t i = 0; i < listing.count; i++) {
            if (listing.entries[i].key == NULL)
                abort();
        }
    }
    kb_s3_error error;
    kb_s3_error_parse(text, size, &error);
    const kb_http_response response = {.status = 400 + (int)(size % 200)};
    const kb_s3_context context = {
        .verb = "GetObject", .bucket = "b", .endpoint = "e", .what = "w", .region = "r"};
    (void)kb_s3_judge(&response, &error, &context, &err);
    kb_s3_error_done(&error);
    parse_creds(text, size);
    if (kb_s3_url_decode(text) && strlen(text) > size)
        abort();
    return 0;
}
