#include "worker/storage/s3_client.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/auth/aws_sigv2.h"
#include "worker/storage/s3_errors.h"
#include "worker/storage/xml_scan.h"

#define KB_S3_URL_BYTES 16384
#define KB_S3_ANSWER_BYTES (16UL * 1024 * 1024)
#define KB_S3_HASTY_TRIES 2

/* ---- addresses ---- */

static bool is_bucket_name(const char *bucket)
{
    size_t len = strlen(bucket);
    return len > 0 && len <= 255 &&
           strspn(bucket, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") == len;
}

static kb_code check_endpoint(const kb_s3_options *o, const char **ret_host, kb_error *err)
{
    bool is_http = strncasecmp(o->endpoint, "http://", 7) == 0;
    if (!is_http && strncasecmp(o->endpoint, "https://", 8) != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage.endpoint '%s': expected https://host[:port]; hint: write the scheme",
                       o->endpoint);
    if (is_http && !o->allow_http)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage.endpoint '%s' is not encrypted; hint: https, or storage.allow_http: true",
                       o->endpoint);
    const char *host = strstr(o->endpoint, "://") + 3;
    size_t len = strcspn(host, "/?#");
    if (len == 0 || strcspn(host, "@") < len || strspn(host + len, "/") != strlen(host + len))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage.endpoint: expected https://host[:port] and nothing more");
    *ret_host = host;
    return KB_OK;
}

/* The port that needs no saying. */
static void drop_default_port(char *host, bool is_https)
{
    const char *port = is_https ? ":443" : ":80";
    size_t len = strlen(host), tail = strlen(port);
    if (len > tail && strcmp(host + len - tail, port) == 0)
        host[len - tail] = '\0';
}

static kb_code set_address(kb_s3 *s3, const kb_s3_options *o, kb_error *err)
{
    KB_AUTOFREE char *aws =
        kb_asprintf("s3.%s.amazonaws.com%s", o->region, strncmp(o->region, "cn-", 3) == 0 ? ".cn" : "");
    const char *host = aws;
    bool is_https = true;
    if (o->endpoint != NULL && check_endpoint(o, &host, err) != KB_OK)
        return err->code;
    if (o->endpoint != NULL)
        is_https = strncasecmp(o->endpoint, "https", 5) == 0;
    KB_AUTOFREE char *plain = kb_strndup(host, strcspn(host, "/?#"));
    drop_default_port(plain, is_https);
    s3->host = o->path_style ? kb_strdup(plain) : kb_asprintf("%s.%s", o->bucket, plain);
    s3->base = kb_asprintf("%s://%s", is_https ? "https" : "http", s3->host);
    s3->root = o->path_style ? kb_asprintf("/%s", o->bucket) : kb_strdup("");
    s3->endpoint = kb_asprintf("%s://%s", is_https ? "https" : "http", plain);
    return KB_OK;
}

static kb_code check_prefix(const char *prefix, kb_error *err)
{
    if (prefix == NULL || (prefix[0] != '/' && strstr(prefix, "//") == NULL))
        return KB_OK;
    return kb_fail(err, KB_CONFIG_INVALID,
                   "storage.prefix '%s' begins with '/' or has '//' in it: other tools cannot list below it",
                   prefix);
}

kb_code kb_s3_new(const kb_s3_options *options, kb_s3 **ret_s3, kb_error *err)
{
    if (options->bucket == NULL || !is_bucket_name(options->bucket))
        return kb_fail(err, KB_CONFIG_INVALID, "storage.bucket '%s' is not the name of a bucket",
                       options->bucket != NULL ? options->bucket : "");
    if (check_prefix(options->prefix, err) != KB_OK)
        return err->code;
    kb_s3 *s3 = kb_calloc(1, sizeof *s3);
    if (set_address(s3, options, err) != KB_OK) {
        free(s3);
        return err->code;
    }
    const char *prefix = options->prefix != NULL ? options->prefix : "";
    s3->bucket = kb_strdup(options->bucket);
    s3->prefix = kb_strdup(prefix);
    s3->region = kb_strdup(options->region);
    s3->place = kb_asprintf("s3://%s%s%s", options->bucket, prefix[0] != '\0' ? "/" : "", prefix);
    s3->is_v2 = options->is_v2;
    s3->net = options->net;
    s3->creds = options->creds;
    s3->clock = options->clock != NULL ? options->clock : kb_clock_system();
    s3->hasty = kb_http_retry_new(&(kb_http_retry_options){
        .http = options->net->http, .max_tries = KB_S3_HASTY_TRIES, .unreachable = KB_STORAGE_UNREACHABLE});
    *ret_s3 = s3;
    return KB_OK;
}

void kb_s3_free(kb_s3 *owned_s3)
{
    if (owned_s3 == NULL)
        return;
    char *const texts[] = {owned_s3->base,   owned_s3->host,   owned_s3->root,   owned_s3->endpoint,
                           owned_s3->bucket, owned_s3->prefix, owned_s3->region, owned_s3->place};
    for (size_t i = 0; i < KB_ARRAY_LEN(texts); i++)
        free(texts[i]);
    kb_http_retry_free(owned_s3->hasty);
    free(owned_s3);
}

/* ---- one request ---- */

typedef struct kb_sending {
    kb_s3 *s3;
    const kb_s3_request *request;
    kb_cred *cred; /* of the last try */
    char *path;    /* encoded */
    char *url;
    char *what;  /* "s3://bucket/name" */
    char *label; /* the same with the verb */
    char payload_sha256[KB_SHA256_HEX_SIZE];
    char md5[KB_MD5_TEXT_SIZE];
    kb_code refusal; /* of an answer that is no success */
    kb_error reason; /* its text */
} kb_sending;

static void sending_done(kb_sending *sending)
{
    kb_cred_unref(sending->cred);
    free(sending->path);
    free(sending->url);
    free(sending->what);
    free(sending->label);
    kb_error_done(&sending->reason);
}

static void hash_body(kb_sending *sending)
{
    uint8_t hash[KB_SHA256_SIZE];
    const kb_view *body = &sending->request->body;
    kb_sha256(body->data, body->len, hash);
    kb_hex_encode(hash, sizeof hash, sending->payload_sha256);
    if (sending->request->has_md5)
        kb_md5_text(body->data, body->len, sending->md5);
}

static kb_code sending_init(kb_sending *sending, kb_s3 *s3, const kb_s3_request *request, kb_error *err)
{
    *sending = (kb_sending){.s3 = s3, .request = request};
    KB_AUTO_STRBUF(path, KB_S3_URL_BYTES);
    KB_AUTO_STRBUF(url, KB_S3_URL_BYTES);
    kb_strbuf_appends(&path, s3->root);
    if (request->name != NULL || s3->root[0] == '\0')
        kb_strbuf_appendc(&path, '/');
    if (request->name != NULL)
        kb_sigv4_encode(request->name, true, &path);
    kb_strbuf_appendf(&url, "%s%s%s", s3->base, kb_strbuf_view(&path), request->param_count > 0 ? "?" : "");
    kb_sigv4_query(request->params, request->param_count, &url);
    if (kb_strbuf_check(&path, "an object's address", err) != KB_OK ||
        kb_strbuf_check(&url, "an object's address", err) != KB_OK)
        return err->code;
    sending->path = kb_strbuf_take(&path);
    sending->url = kb_strbuf_take(&url);
    sending->what = request->name != NULL ? kb_asprintf("s3://%s/%s", s3->bucket, request->name)
                                          : kb_asprintf("s3://%s", s3->bucket);
    sending->label = kb_asprintf("%s of %s", request->verb, sending->what);
    hash_body(sending);
    return KB_OK;
}

static void sign_v4(const kb_sending *sending, const kb_http_request *request, int64_t now_ms,
                    kb_http_headers *headers)
{
    const kb_s3 *s3 = sending->s3;
    const kb_s3_request *r = sending->request;
    kb_sigv4_scope scope = {.region = s3->region, .service = "s3"};
    kb_sigv4_time(now_ms, scope.time);
    kb_sigv4_request to_sign = {.method = request->method,
                                .path = sending->path,
                                .params = r->params,
                                .param_count = r->param_count,
                                .headers = headers,
                                .payload_sha256 = sending->payload_sha256};
    kb_sigv4_sign(&to_sign, &scope, sending->cred, headers);
}

static void sign_v2(const kb_sending *sending, const kb_http_request *request, int64_t now_ms,
                    kb_http_headers *headers)
{
    const kb_s3 *s3 = sending->s3;
    KB_AUTOFREE char *resource =
        s3->root[0] != '\0' ? kb_strdup(sending->path) : kb_asprintf("/%s%s", s3->bucket, sending->path);
    const kb_sigv2_request to_sign = {.method = request->method,
                                      .resource = resource,
                                      .params = sending->request->params,
                                      .param_count = sending->request->param_count,
                                      .headers = headers};
    kb_sigv2_sign(&to_sign, now_ms, sending->cred, headers);
}

static kb_code prepare(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                       kb_http_headers *headers, kb_error *err)
{
    (void)attempt;
    kb_sending *sending = ctx;
    kb_s3 *s3 = sending->s3;
    const kb_s3_request *r = sending->request;
    kb_cred_unref(sending->cred);
    sending->cred = NULL;
    if (kb_cred_get(s3->creds, &sending->cred, err) != KB_OK)
        return err->code;
    request->url = sending->url;
    kb_http_headers_set(headers, "Host", s3->host);
    if (r->has_md5)
        kb_http_headers_set(headers, "Content-MD5", sending->md5);
    if (r->if_none_match)
        kb_http_headers_set(headers, "If-None-Match", "*");
    if (r->content_type != NULL)
        kb_http_headers_set(headers, "Content-Type", r->content_type);
    int64_t now_ms = kb_clock_now_wall_ms(s3->clock) + atomic_load(&s3->skew_ms);
    if (s3->is_v2)
        sign_v2(sending, request, now_ms, headers);
    else
        sign_v4(sending, request, now_ms, headers);
    return KB_OK;
}

typedef struct kb_root_name {
    char name[64];
} kb_root_name;

static kb_code note_root(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)text, (void)len, (void)err;
    kb_root_name *root = ctx;
    size_t n = strcspn(path, "/");
    if (n < sizeof root->name) {
        memcpy(root->name, path, n);
        root->name[n] = '\0';
    }
    return KB_OK;
}

/* A 2xx answer that says something else than it should: an error after keep-alive blanks, or nothing at all.
 */
static bool is_as_expected(const kb_s3_request *request, const kb_http_response *response)
{
    if (request->expect == NULL)
        return true;
    KB_AUTO_ERROR(ignored);
    kb_root_name root = {""};
    size_t blank = strspn(response->body, " \t\r\n");
    return kb_xml_scan(response->body + blank, response->body_len - blank, note_root, &root, &ignored) ==
               KB_OK &&
           strcmp(root.name, request->expect) == 0;
}

static kb_s3_context context_of(const kb_sending *sending)
{
    const kb_s3 *s3 = sending->s3;
    return (kb_s3_context){
        .verb = sending->request->verb,
        .bucket = s3->bucket,
        .endpoint = s3->endpoint,
        .what = sending->what,
        .region = s3->region,
        .cred = sending->cred,
        .now_ms = kb_clock_now_wall_ms(s3->clock),
    };
}

static kb_http_verdict judge_refusal(kb_sending *sending, const kb_http_response *response, kb_error *err)
{
    kb_s3_error error;
    size_t blank = strspn(response->body, " \t\r\n");
    kb_s3_error_parse(response->body + blank, response->body_len - blank, &error);
    kb_s3_context context = context_of(sending);
    kb_http_verdict verdict = kb_s3_judge(response, &error, &context, err);
    if (verdict == KB_HTTP_ANSWER) {
        sending->refusal = err->code;
        if (strcmp(error.code, "NoSuchKey") == 0 || strcmp(error.code, "NoSuchUpload") == 0)
            atomic_store(&sending->s3->is_bucket_seen, true);
        kb_error_move(&sending->reason, err);
    }
    kb_s3_error_done(&error);
    return verdict;
}

static kb_http_verdict judge(void *ctx, const kb_http_attempt *attempt, const kb_http_response *response,
                             kb_error *err)
{
    (void)attempt;
    kb_sending *sending = ctx;
    sending->refusal = KB_OK;
    if (response->status < 200 || response->status >= 300)
        return judge_refusal(sending, response, err);
    if (is_as_expected(sending->request, response)) {
        atomic_store(&sending->s3->is_bucket_seen, true);
        return KB_HTTP_ANSWER;
    }
    kb_http_response spoiled = *response;
    spoiled.status = 500; /* whatever it says: the request has to be sent again */
    kb_http_verdict verdict = judge_refusal(sending, &spoiled, err);
    return verdict == KB_HTTP_ANSWER ? KB_HTTP_TRANSIENT : verdict;
}

static kb_code renew(void *ctx, kb_error *err)
{
    (void)err;
    kb_sending *sending = ctx;
    kb_cred_refused(sending->s3->creds, sending->cred);
    return KB_OK;
}

static void correct_clock(void *ctx, int64_t offset_ms)
{
    kb_sending *sending = ctx;
    atomic_store(&sending->s3->skew_ms, offset_ms);
}

static kb_http_call call_of(kb_sending *sending)
{
    const kb_s3_request *request = sending->request;
    return (kb_http_call){
        .what = sending->label,
        .request = {.method = request->method,
                    .url = sending->url,
                    .body = &request->body,
                    .body_count = request->body.len > 0,
                    .sink = request->sink,
                    .max_body_bytes =
                        request->max_body_bytes > 0 ? request->max_body_bytes : KB_S3_ANSWER_BYTES},
        .ctx = sending,
        .prepare = prepare,
        .judge = judge,
        .renew = renew,
        .correct_clock = correct_clock,
    };
}

kb_code kb_s3_send(kb_s3 *s3, const kb_s3_request *request, kb_http_response *response,
                   bool *ret_maybe_applied, kb_error *err)
{
    KB_CLEANUP(sending_done) kb_sending sending;
    kb_code code = sending_init(&sending, s3, request, err);
    if (code != KB_OK)
        return code;
    kb_http_call call = call_of(&sending);
    kb_http_attempt attempt = {0};
    code = kb_http_retry_run(request->is_hasty ? s3->hasty : s3->net->store, &call, response, &attempt, err);
    if (ret_maybe_applied != NULL)
        *ret_maybe_applied = attempt.maybe_applied;
    if (code != KB_OK || sending.refusal == KB_OK)
        return code;
    kb_error_move(err, &sending.reason);
    return sending.refusal;
}

kb_code kb_s3_get_range(kb_s3 *s3, const char *name, uint64_t offset, void *to, size_t len, kb_error *err)
{
    const kb_s3_request request = {.verb = "GetObject", .method = "GET", .name = name};
    KB_CLEANUP(sending_done) kb_sending sending;
    kb_code code = sending_init(&sending, s3, &request, err);
    if (code != KB_OK)
        return code;
    kb_http_call call = call_of(&sending);
    KB_AUTO_RESPONSE(response);
    code = kb_http_retry_get_range(s3->net->store, &call, offset, to, len, &response, NULL, err);
    if (code != KB_OK || sending.refusal == KB_OK)
        return code;
    kb_error_move(err, &sending.reason);
    return sending.refusal;
}

/* ---- HEAD ---- */

static kb_code ignore_data(void *ctx, const void *data, size_t len, kb_error *err)
{
    (void)ctx, (void)data, (void)len, (void)err;
    return KB_OK;
}

/* Whether a 404 without a body was the key's and not the bucket's: the answer to a GET has one. */
static kb_code prove_absence(kb_s3 *s3, const char *name, kb_error *err)
{
    const kb_http_sink sink = {.on_data = ignore_data};
    const kb_s3_request request = {.verb = "GetObject", .method = "GET", .name = name, .sink = &sink};
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(asked);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, &asked);
    if (code == KB_OK)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "s3://%s/%s was absent and is there now",
                                 s3->bucket, name);
    kb_error_move(err, &asked);
    return code;
}

static kb_code refuse_data(void *ctx, const kb_http_response *response, kb_error *err)
{
    (void)ctx, (void)response;
    return kb_fail(err, KB_ERR_END, "not wanted");
}

/* Why a HEAD was refused: its answer has no body, that of a GET says it. */
static void explain(kb_s3 *s3, const char *name, kb_error *err)
{
    const kb_http_sink sink = {.on_start = refuse_data, .on_data = ignore_data};
    const kb_s3_request request = {.verb = "GetObject", .method = "GET", .name = name, .sink = &sink};
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(asked);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, &asked);
    if (code == KB_STORAGE_ACCESS_DENIED || code == KB_CONFIG_INVALID)
        kb_error_move(err, &asked);
}

kb_code kb_s3_head(kb_s3 *s3, const char *name, kb_object_info *ret_info, kb_error *err)
{
    const kb_s3_request request = {.verb = "HeadObject", .method = "HEAD", .name = name};
    KB_AUTO_RESPONSE(response);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, err);
    if (code == KB_ERR_NOT_FOUND && !atomic_load(&s3->is_bucket_seen))
        return prove_absence(s3, name, err);
    if (code == KB_STORAGE_ACCESS_DENIED || code == KB_CONFIG_INVALID)
        explain(s3, name, err);
    if (code != KB_OK)
        return err->code;
    const char *size = kb_http_response_header(&response, "Content-Length");
    const char *time = kb_http_response_header(&response, "Last-Modified");
    int64_t bytes = 0;
    kb_object_info info = {0};
    if (size == NULL || !kb_parse_i64(size, &bytes) || bytes < 0)
        return kb_fail(err, KB_CONFIG_INVALID, "s3://%s/%s at %s: an answer to HEAD has no Content-Length",
                       s3->bucket, name, s3->endpoint);
    info.size_bytes = (uint64_t)bytes;
    if (time != NULL && !kb_http_parse_date(time, &info.mtime_ms))
        info.mtime_ms = 0;
    *ret_info = info;
    return KB_OK;
}

kb_code kb_s3_now(kb_s3 *s3, int64_t *ret_now_ms, kb_error *err)
{
    static const kb_sigv4_param params[] = {{"list-type", "2"}, {"max-keys", "1"}};
    const kb_s3_request request = {.verb = "ListBucket",
                                   .method = "GET",
                                   .params = params,
                                   .param_count = KB_ARRAY_LEN(params),
                                   .expect = "ListBucketResult"};
    KB_AUTO_RESPONSE(response);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, err);
    if (code != KB_OK)
        return code;
    const char *date = kb_http_response_header(&response, "Date");
    if (date == NULL || !kb_http_parse_date(date, ret_now_ms))
        return kb_fail(err, KB_CONFIG_INVALID, "S3 at %s does not say the time: its answers have no Date",
                       s3->endpoint);
    return KB_OK;
}
