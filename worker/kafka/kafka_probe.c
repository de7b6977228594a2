#include "worker/kafka/kafka_probe.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_handle.h"

#define KB_PROBE_SLICE_MS 50
/* How long after the first answer a record may still come: the answer is counted before its records. */
#define KB_PROBE_SETTLE_MS 500

static int64_t left_ms(const kb_kafka_probe *probe)
{
    int64_t left = probe->deadline_ms - kb_clock_boot_ms();
    return left > 0 ? left : 0;
}

static void close_message(rd_kafka_message_t **at)
{
    if (*at != NULL)
        rd_kafka_message_destroy(*at);
}

/* Whether a fetch at the position was answered, and answered with nothing. */
static bool is_answered_empty(rd_kafka_t *rk, rd_kafka_topic_t *topic, const kb_kafka_probe *probe)
{
    int64_t answered_ms = 0;
    while (left_ms(probe) > 0) {
        KB_CLEANUP(close_message)
        rd_kafka_message_t *message = rd_kafka_consume(topic, probe->partition, KB_PROBE_SLICE_MS);
        if (message != NULL)
            return false; /* a record, the end, or an error: whatever it is, the stream itself will get it */
        int64_t low = RD_KAFKA_OFFSET_INVALID;
        int64_t high = RD_KAFKA_OFFSET_INVALID;
        if (answered_ms == 0 &&
            rd_kafka_get_watermark_offsets(rk, probe->topic, probe->partition, &low, &high) == 0 &&
            low >= 0 && low <= probe->position && high > probe->position)
            answered_ms = kb_clock_boot_ms();
        if (answered_ms != 0 && kb_clock_boot_ms() - answered_ms >= KB_PROBE_SETTLE_MS)
            return true;
    }
    return false;
}

kb_code kb_kafka_probe_end(const kb_kafka_probe *probe, int64_t *ret_end, kb_error *err)
{
    char committed[] = "read_committed";
    char uncommitted[] = "read_uncommitted";
    char wait_ms[] = "10";
    char on_range_error[] = "error";
    const kb_kafka_property properties[] = {
        {"isolation.level", probe->read_uncommitted ? uncommitted : committed},
        {"fetch.wait.max.ms", wait_ms},
        {"auto.offset.reset", on_range_error},
    };
    kb_kafka_handle_spec spec = {
        .type = RD_KAFKA_CONSUMER, .properties = properties, .property_count = KB_ARRAY_LEN(properties)};
    kb_kafka_handle *handle = NULL;
    kb_code code = kb_kafka_handle_new(probe->options, &spec, &handle, err);
    if (code != KB_OK)
        return code;
    rd_kafka_t *rk = kb_kafka_handle_rk(handle);
    int64_t low = 0;
    int64_t end = 0;
    int64_t found = probe->position;
    rd_kafka_resp_err_t number =
        rd_kafka_query_watermark_offsets(rk, probe->topic, probe->partition, &low, &end, (int)left_ms(probe));
    if (number == RD_KAFKA_RESP_ERR_NO_ERROR && low <= probe->position && end > probe->position) {
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, probe->topic, NULL);
        if (rd_kafka_consume_start(topic, probe->partition, probe->position) == 0) {
            if (is_answered_empty(rk, topic, probe))
                found = end;
            (void)rd_kafka_consume_stop(topic, probe->partition);
        }
        rd_kafka_topic_destroy(topic);
    }
    kb_kafka_handle_free(handle);
    *ret_end = found;
    return KB_OK;
}
