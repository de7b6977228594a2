#include "worker/kafka/kafka_probe.h"

#include <string.h>

#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_handle.h"

#define KB_PROBE_SLICE_MS 50
#define KB_PROBE_SAMPLES 5 /* of the statistics, 200 ms apart */

/* What the statistics say about the partition. */
typedef struct sighting {
    const kb_kafka_probe *probe;
    unsigned empty_count; /* samples in a row that found answered fetches, and nothing */
    bool has_moved;       /* something was fetched, be it only what the isolation level hides */
    int64_t end;          /* by the newest answer */
} sighting;

static int64_t left_ms(const kb_kafka_probe *probe)
{
    int64_t left = probe->deadline_ms - kb_clock_boot_ms();
    return left > 0 ? left : 0;
}

static int64_t number_of(const json_t *partition, const char *name)
{
    const json_t *value = json_object_get(partition, name);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

static void take_sample(sighting *seen, const json_t *partition)
{
    int64_t position = seen->probe->position;
    int64_t next = number_of(partition, "next_offset");
    if (number_of(partition, "rxmsgs") > 0 || next > position)
        seen->has_moved = true;
    /* The ends are negative until a fetch was answered without an error. */
    bool is_answered =
        number_of(partition, "hi_offset") > position && number_of(partition, "ls_offset") > position;
    seen->empty_count = is_answered && next == position ? seen->empty_count + 1 : 0;
    seen->end = number_of(partition, "ls_offset");
}

static void on_statistics(void *user, const char *json, size_t len)
{
    sighting *seen = user;
    json_t *root = json_loadb(json, len, 0, NULL);
    KB_AUTOFREE char *id = kb_asprintf("%d", (int)seen->probe->partition);
    const json_t *topic = json_object_get(json_object_get(root, "topics"), seen->probe->topic);
    const json_t *partition = json_object_get(json_object_get(topic, "partitions"), id);
    if (partition != NULL)
        take_sample(seen, partition);
    json_decref(root);
}

/* Whether fetches at the position are answered, and answered with nothing. */
static bool is_answered_empty(kb_kafka_handle *handle, rd_kafka_topic_t *topic, const sighting *seen)
{
    while (left_ms(seen->probe) > 0 && !seen->has_moved) {
        rd_kafka_message_t *message = rd_kafka_consume(topic, seen->probe->partition, KB_PROBE_SLICE_MS);
        if (message != NULL) {
            rd_kafka_message_destroy(message);
            return false; /* a record, the end, or an error: whatever it is, the stream itself will get it */
        }
        (void)kb_kafka_handle_serve(handle, 0);
        if (seen->empty_count >= KB_PROBE_SAMPLES && !seen->has_moved)
            return true;
    }
    return false;
}

/* Whether all of the topic lies on the brokers themselves, and that is certain. */
static bool is_local(const kb_kafka_probe *probe)
{
    static const char *const REMOTE[] = {"remote.storage.enable", "redpanda.remote.read"};
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_kafka_admin_free_at) kb_kafka_admin *admin = NULL;
    const char *const topics[1] = {probe->topic};
    kb_kafka_call call = {.deadline_ms = probe->deadline_ms};
    kb_kafka_configs *configs = NULL;
    if (kb_kafka_admin_new(probe->options, NULL, &admin, &err) != KB_OK ||
        kb_kafka_admin_describe_topic_configs(admin, topics, 1, &call, &configs, &err) != KB_OK)
        return false;
    bool local = configs->error_number == 0;
    for (size_t i = 0; i < KB_ARRAY_LEN(REMOTE); i++) {
        const kb_kafka_config *config = kb_kafka_configs_find(configs, REMOTE[i]);
        if (config != NULL && (config->value == NULL || strcmp(config->value, "false") != 0))
            local = false;
    }
    kb_kafka_configs_free(configs, 1);
    return local;
}

static kb_code handle_new(const kb_kafka_probe *probe, sighting *seen, kb_kafka_handle **ret_handle,
                          kb_error *err)
{
    char committed[] = "read_committed";
    char uncommitted[] = "read_uncommitted";
    char wait_ms[] = "10";
    char on_range_error[] = "error";
    char interval_ms[] = "200";
    const kb_kafka_property properties[] = {
        {"isolation.level", probe->read_uncommitted ? uncommitted : committed},
        {"fetch.wait.max.ms", wait_ms},
        {"auto.offset.reset", on_range_error},
        {"statistics.interval.ms", interval_ms},
    };
    kb_kafka_handle_spec spec = {
        .type = RD_KAFKA_CONSUMER,
        .properties = properties,
        .property_count = KB_ARRAY_LEN(properties),
        .on_statistics = on_statistics,
        .user = seen,
    };
    kb_kafka_options options = *probe->options;
    options.client_rack = NULL; /* the leader itself shall answer */
    return kb_kafka_handle_new(&options, &spec, ret_handle, err);
}

kb_code kb_kafka_probe_end(const kb_kafka_probe *probe, int64_t *ret_end, kb_error *err)
{
    sighting seen = {.probe = probe};
    kb_kafka_handle *handle = NULL;
    kb_code code = handle_new(probe, &seen, &handle, err);
    if (code != KB_OK)
        return code;
    rd_kafka_t *rk = kb_kafka_handle_rk(handle);
    int64_t low = 0;
    int64_t end =
        0; /* for this isolation level; read before the fetch, so that nothing below it can be new */
    int64_t found = probe->position;
    rd_kafka_resp_err_t number =
        rd_kafka_query_watermark_offsets(rk, probe->topic, probe->partition, &low, &end, (int)left_ms(probe));
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && low <= probe->position && end > probe->position &&
        is_local(probe)) {
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, probe->topic, NULL);
        if (rd_kafka_consume_start(topic, probe->partition, probe->position) == 0) {
            if (is_answered_empty(handle, topic, &seen))
                found = end < seen.end ? end : seen.end;
            (void)rd_kafka_consume_stop(topic, probe->partition);
        }
        rd_kafka_topic_destroy(topic);
    }
    kb_kafka_handle_free(handle);
    *ret_end = found;
    return KB_OK;
}
