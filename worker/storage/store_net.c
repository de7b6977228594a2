#include "worker/storage/store_net.h"

#include <stdlib.h>

#include "common/base/mem.h"

#define KB_METADATA_CONNECT_MS 1000
#define KB_METADATA_ANSWER_MS 5000
#define KB_METADATA_TRIES 3
#define KB_METADATA_CONNECTIONS 2

static const kb_breaker_options default_breaker = {
    .failure_threshold = 5, .reset_timeout_ms = 60000, .success_threshold = 2};

static kb_code open_clients(const kb_store_net_options *options, kb_store_net *net, kb_error *err)
{
    const kb_http_options normal = {
        .ca_file = options->ca_file,
        .trust_dir = options->trust_dir,
        .allow_http = options->allow_http,
        .max_connections = options->max_connections,
        .first_byte_ms = options->request_timeout_ms,
        .stall_ms = options->request_timeout_ms,
    };
    const kb_http_options direct = {
        .ca_file = options->ca_file,
        .trust_dir = options->trust_dir,
        .allow_http = true,
        .direct = true,
        .max_connections = KB_METADATA_CONNECTIONS,
        .resolve_ms = KB_METADATA_CONNECT_MS,
        .connect_ms = KB_METADATA_CONNECT_MS,
        .first_byte_ms = KB_METADATA_ANSWER_MS,
        .stall_ms = KB_METADATA_ANSWER_MS,
    };
    kb_code code = kb_http_new(&normal, &net->http, err);
    return code != KB_OK ? code : kb_http_new(&direct, &net->direct, err);
}

kb_code kb_store_net_new(const kb_store_net_options *options, kb_store_net **ret_net, kb_error *err)
{
    KB_CLEANUP(kb_store_net_free_at) kb_store_net *net = kb_calloc(1, sizeof *net);
    kb_code code = open_clients(options, net, err);
    if (code != KB_OK)
        return code;
    net->breaker =
        kb_breaker_new(options->breaker.failure_threshold > 0 ? &options->breaker : &default_breaker);
    kb_http_retry_options retry = {
        .http = net->http,
        .stop = options->stop,
        .stop_grace_ms = options->stop_grace_ms,
        .unreachable = KB_STORAGE_UNREACHABLE,
    };
    net->tokens = kb_http_retry_new(&retry);
    retry.breaker = net->breaker;
    retry.on_event = options->on_event;
    retry.event_ctx = options->event_ctx;
    net->store = kb_http_retry_new(&retry);
    const kb_http_retry_options metadata = {
        .http = net->direct,
        .stop = options->stop,
        .stop_grace_ms = options->stop_grace_ms,
        .unreachable = KB_STORAGE_UNREACHABLE,
        .max_tries = KB_METADATA_TRIES,
    };
    net->metadata = kb_http_retry_new(&metadata);
    *ret_net = KB_TAKE(net);
    return KB_OK;
}

void kb_store_net_free(kb_store_net *owned_net)
{
    if (owned_net == NULL)
        return;
    kb_http_retry_free(owned_net->store);
    kb_http_retry_free(owned_net->tokens);
    kb_http_retry_free(owned_net->metadata);
    if (owned_net->breaker != NULL)
        kb_breaker_free(owned_net->breaker);
    kb_http_free(owned_net->http);
    kb_http_free(owned_net->direct);
    free(owned_net);
}

void kb_store_net_free_at(kb_store_net **at)
{
    kb_store_net_free(*at);
    *at = NULL;
}
