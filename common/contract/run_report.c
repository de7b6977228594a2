#include "common/contract/run_report.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_DUMP_FLAGS JSON_COMPACT

#define KB_COLUMN(name, type, bound) {name, KB_REPORT_TYPE_##type, bound},
/* The first entry only keeps the array of a field without columns from being empty. */
#define KB_COLUMN_SET(set) \
    static const kb_report_column set##_COLUMNS[] = {{"", KB_REPORT_TYPE_BOOL, 0}, \
                                                     KB_REPORT_##set##_COLUMNS(KB_COLUMN)};
KB_COLUMN_SET(NO)
KB_COLUMN_SET(NAME)
KB_COLUMN_SET(GAP)
KB_COLUMN_SET(TOPIC)
KB_COLUMN_SET(GROUP)
KB_COLUMN_SET(DIFFERENCE)
KB_COLUMN_SET(FINDING)
KB_COLUMN_SET(CATALOG)

static const kb_report_spec SPECS[] = {
#define KB_SPEC(constant, name, type, bound, set) \
    [KB_REPORT_##constant] = {name, KB_REPORT_TYPE_##type, bound, set##_COLUMNS + 1, \
                              KB_ARRAY_LEN(set##_COLUMNS) - 1},
    KB_RUN_REPORT_FIELDS(KB_SPEC)
#undef KB_SPEC
};

/* What is shortened row by row, in this order; the message comes between the last two groups. */
static const kb_report_field SHORTENED_FIRST[] = {KB_REPORT_TOPICS,        KB_REPORT_GROUPS,
                                                  KB_REPORT_DIFFERENCES,   KB_REPORT_FINDINGS,
                                                  KB_REPORT_SKIPPED_NAMES, KB_REPORT_CATALOG};
static const kb_report_field DROPPED_LAST[] = {KB_REPORT_HELD_TOPICS, KB_REPORT_WAITING_FOR,
                                               KB_REPORT_PRUNE_ERROR, KB_REPORT_FIRST_GAP};

static const char *const STATE_NAMES[] = {
    [KB_RUN_STARTING] = "Starting",
    [KB_RUN_WAITING_FOR_LOCK] = "WaitingForLock",
    [KB_RUN_PREFLIGHT] = "Preflight",
    [KB_RUN_RUNNING] = "Running",
    [KB_RUN_FINISHING] = "Finishing",
    [KB_RUN_SUCCEEDED] = "Succeeded",
    [KB_RUN_DONE_WITH_FINDINGS] = "DoneWithFindings",
    [KB_RUN_FAILED] = "Failed",
    [KB_RUN_INTERRUPTED] = "Interrupted",
};

const kb_report_spec *kb_run_report_spec(kb_report_field field)
{
    return &SPECS[field];
}

const char *kb_run_state_name(kb_run_state state)
{
    return STATE_NAMES[state];
}

bool kb_run_state_is_final(kb_run_state state)
{
    return state >= KB_RUN_SUCCEEDED;
}

static bool has_rows(const kb_report_spec *spec)
{
    return spec->column_count > 0;
}

/* How many rows a field may hold. */
static size_t row_bound(const kb_report_spec *spec)
{
    return spec->type == KB_REPORT_TYPE_OBJECT ? 1 : spec->bound;
}

void kb_run_report_init(kb_run_report *report)
{
    memset(report, 0, sizeof *report);
}

static void rows_clear(kb_run_report *report, kb_report_field field)
{
    kb_report_rows *rows = &report->rows[field];
    for (size_t i = 0; i < rows->count * SPECS[field].column_count; i++)
        free(rows->cells[i].text);
    free(rows->cells);
    *rows = (kb_report_rows){0};
}

void kb_run_report_unset(kb_run_report *report, kb_report_field field)
{
    free(report->scalars[field].text);
    report->scalars[field] = (kb_report_value){0};
    rows_clear(report, field);
}

void kb_run_report_done(kb_run_report *report)
{
    for (size_t field = 0; field < KB_REPORT_FIELD_COUNT; field++)
        kb_run_report_unset(report, (kb_report_field)field);
}

static kb_report_value value_copy(const kb_report_value *from)
{
    return (kb_report_value){from->present, from->number, kb_strdup_opt(from->text)};
}

void kb_run_report_copy(kb_run_report *to, const kb_run_report *from)
{
    kb_run_report_done(to);
    for (size_t field = 0; field < KB_REPORT_FIELD_COUNT; field++) {
        to->scalars[field] = value_copy(&from->scalars[field]);
        const kb_report_rows *rows = &from->rows[field];
        if (rows->count == 0)
            continue;
        size_t cells = rows->count * SPECS[field].column_count;
        to->rows[field].cells = kb_calloc(cells, sizeof(kb_report_value));
        to->rows[field].count = rows->count;
        for (size_t i = 0; i < cells; i++)
            to->rows[field].cells[i] = value_copy(&rows->cells[i]);
    }
}

char *kb_run_report_clean(const char *text, size_t bound)
{
    KB_AUTO_STRBUF(clean, bound);
    size_t left = strlen(text);
    while (left > 0) {
        size_t step = kb_utf8_step(text, left);
        size_t added = step == 0 ? 3 : step;
        if (clean.len + added > bound)
            break;
        if (step == 0)
            kb_strbuf_appends(&clean, "\xEF\xBF\xBD");
        else
            kb_strbuf_append(&clean, text, step);
        step = step == 0 ? 1 : step;
        text += step;
        left -= step;
    }
    char *taken = kb_strbuf_take(&clean);
    return taken != NULL ? taken : kb_strdup("");
}

static int64_t bounded_number(kb_report_type type, int64_t number)
{
    if (type != KB_REPORT_TYPE_INT32)
        return number;
    if (number > INT32_MAX)
        return INT32_MAX;
    return number < INT32_MIN ? INT32_MIN : number;
}

static void set_scalar(kb_run_report *report, kb_report_field field, kb_report_type type, int64_t number)
{
    assert(SPECS[field].type == type);
    report->scalars[field].number = bounded_number(type, number);
    report->scalars[field].present = true;
}

void kb_run_report_set_text(kb_run_report *report, kb_report_field field, const char *text)
{
    assert(SPECS[field].type == KB_REPORT_TYPE_STRING);
    kb_run_report_unset(report, field);
    if (text == NULL)
        return;
    report->scalars[field].text = kb_run_report_clean(text, SPECS[field].bound);
    report->scalars[field].present = true;
}

void kb_run_report_set_number(kb_run_report *report, kb_report_field field, int64_t number)
{
    set_scalar(report, field,
               SPECS[field].type == KB_REPORT_TYPE_INT32 ? KB_REPORT_TYPE_INT32 : KB_REPORT_TYPE_INT64,
               number);
}

void kb_run_report_set_flag(kb_run_report *report, kb_report_field field, bool flag)
{
    set_scalar(report, field, KB_REPORT_TYPE_BOOL, flag);
}

void kb_run_report_set_time(kb_run_report *report, kb_report_field field, int64_t unix_ms)
{
    set_scalar(report, field, KB_REPORT_TYPE_TIME, unix_ms);
}

void kb_run_report_set_state(kb_run_report *report, kb_run_state state)
{
    set_scalar(report, KB_REPORT_STATE, KB_REPORT_TYPE_STATE, state);
}

/* A cell as it is handed in, text borrowed; for a text column NULL means absent. */
typedef struct kb_cell {
    const char *text;
    int64_t number;
} kb_cell;

#define KB_TEXT(value) ((kb_cell){.text = (value)})
#define KB_NUMBER(value) ((kb_cell){.number = (value)})

static void add_row(kb_run_report *report, kb_report_field field, const kb_cell *cells)
{
    const kb_report_spec *spec = &SPECS[field];
    kb_report_rows *rows = &report->rows[field];
    if (rows->count >= row_bound(spec)) {
        kb_run_report_set_flag(report, KB_REPORT_TRUNCATED, true);
        return;
    }
    size_t width = spec->column_count;
    rows->cells = kb_realloc(rows->cells, (rows->count + 1) * width, sizeof *rows->cells);
    for (size_t i = 0; i < width; i++) {
        const kb_report_column *column = &spec->columns[i];
        kb_report_value value = {.present = true, .number = bounded_number(column->type, cells[i].number)};
        if (column->type == KB_REPORT_TYPE_STRING) {
            value.present = cells[i].text != NULL;
            value.text = value.present ? kb_run_report_clean(cells[i].text, column->bound) : NULL;
        }
        rows->cells[rows->count * width + i] = value;
    }
    rows->count++;
}

void kb_run_report_set_first_gap(kb_run_report *report, const char *topic, int32_t partition, int64_t start,
                                 int64_t end)
{
    rows_clear(report, KB_REPORT_FIRST_GAP);
    const kb_cell cells[] = {KB_TEXT(topic), KB_NUMBER(partition), KB_NUMBER(start), KB_NUMBER(end)};
    add_row(report, KB_REPORT_FIRST_GAP, cells);
}

void kb_run_report_add_name(kb_run_report *report, kb_report_field field, const char *name)
{
    assert(SPECS[field].type == KB_REPORT_TYPE_NAMES);
    add_row(report, field, &KB_TEXT(name));
}

void kb_run_report_add_topic(kb_run_report *report, const char *name, int64_t records)
{
    add_row(report, KB_REPORT_TOPICS, (const kb_cell[]){KB_TEXT(name), KB_NUMBER(records)});
}

void kb_run_report_add_group(kb_run_report *report, const char *group, const char *status,
                             int32_t partitions_reset, const char *message)
{
    const kb_cell cells[] = {KB_TEXT(group), KB_TEXT(status), KB_NUMBER(partitions_reset), KB_TEXT(message)};
    add_row(report, KB_REPORT_GROUPS, cells);
}

void kb_run_report_add_difference(kb_run_report *report, const char *group, const char *topic,
                                  int32_t partition, int64_t expected, int64_t actual)
{
    const kb_cell cells[] = {KB_TEXT(group), KB_TEXT(topic), KB_NUMBER(partition), KB_NUMBER(expected),
                             KB_NUMBER(actual)};
    add_row(report, KB_REPORT_DIFFERENCES, cells);
}

void kb_run_report_add_finding(kb_run_report *report, const char *check, const char *result,
                               const char *detail)
{
    add_row(report, KB_REPORT_FINDINGS, (const kb_cell[]){KB_TEXT(check), KB_TEXT(result), KB_TEXT(detail)});
}

void kb_run_report_add_catalog(kb_run_report *report, const kb_report_catalog_row *row)
{
    const kb_cell cells[] = {KB_TEXT(row->backup_id),       KB_NUMBER(row->start_ms),
                             KB_NUMBER(row->completion_ms), KB_NUMBER(row->size_bytes),
                             KB_NUMBER(row->record_count),  KB_TEXT(row->reason)};
    add_row(report, KB_REPORT_CATALOG, cells);
}

/* jansson returns NULL only when memory is gone: every text is valid UTF-8 by then. */
static json_t *need(json_t *value)
{
    if (value == NULL)
        kb_out_of_memory();
    return value;
}

static json_t *time_json(int64_t unix_ms)
{
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(unix_ms, text);
    /* Kubernetes writes whole seconds: the fraction goes. */
    return need(json_sprintf("%.19sZ", text));
}

static json_t *value_json(kb_report_type type, const kb_report_value *value)
{
    switch (type) {
    case KB_REPORT_TYPE_STRING:
        return need(json_string(value->text));
    case KB_REPORT_TYPE_TIME:
        return time_json(value->number);
    case KB_REPORT_TYPE_STATE:
        return need(json_string(kb_run_state_name((kb_run_state)value->number)));
    case KB_REPORT_TYPE_BOOL:
        return json_boolean(value->number != 0);
    case KB_REPORT_TYPE_INT32:
    case KB_REPORT_TYPE_INT64:
    case KB_REPORT_TYPE_OBJECT:
    case KB_REPORT_TYPE_LIST:
    case KB_REPORT_TYPE_NAMES:
        break;
    }
    return need(json_integer(value->number));
}

static json_t *row_json(const kb_report_spec *spec, const kb_report_value *cells)
{
    if (spec->type == KB_REPORT_TYPE_NAMES)
        return value_json(spec->columns[0].type, &cells[0]);
    json_t *row = need(json_object());
    for (size_t i = 0; i < spec->column_count; i++)
        if (cells[i].present)
            json_object_set_new(row, spec->columns[i].name, value_json(spec->columns[i].type, &cells[i]));
    return row;
}

static json_t *rows_json(const kb_report_spec *spec, const kb_report_rows *rows)
{
    if (spec->type == KB_REPORT_TYPE_OBJECT)
        return row_json(spec, rows->cells);
    json_t *list = need(json_array());
    for (size_t i = 0; i < rows->count; i++)
        json_array_append_new(list, row_json(spec, &rows->cells[i * spec->column_count]));
    return list;
}

static json_t *report_json(const kb_run_report *report)
{
    json_t *root = need(json_object());
    for (size_t field = 0; field < KB_REPORT_FIELD_COUNT; field++) {
        const kb_report_spec *spec = &SPECS[field];
        if (has_rows(spec) && report->rows[field].count > 0)
            json_object_set_new(root, spec->name, rows_json(spec, &report->rows[field]));
        else if (report->scalars[field].present)
            json_object_set_new(root, spec->name, value_json(spec->type, &report->scalars[field]));
    }
    return root;
}

static size_t json_size(const json_t *value)
{
    return json_dumpb(value, NULL, 0, KB_DUMP_FLAGS | JSON_ENCODE_ANY);
}

/* Removes rows from the end until the whole fits or the list is gone. */
static void shorten_list(json_t *root, const char *name, size_t max_bytes)
{
    json_t *list = json_object_get(root, name);
    size_t size = json_size(root);
    while (list != NULL && size > max_bytes && json_array_size(list) > 0) {
        size_t last = json_array_size(list) - 1;
        size -= json_size(json_array_get(list, last)) + (last > 0 ? 1 : 0);
        json_array_remove(list, last);
    }
    if (list != NULL && json_array_size(list) == 0)
        json_object_del(root, name);
}

/* Every byte taken from the message takes at least one byte from the whole. */
static void shorten_message(json_t *root, size_t max_bytes)
{
    const char *name = SPECS[KB_REPORT_MESSAGE].name;
    json_t *message = json_object_get(root, name);
    size_t size = json_size(root);
    if (message == NULL || size <= max_bytes)
        return;
    size_t len = json_string_length(message);
    size_t keep = len > size - max_bytes ? len - (size - max_bytes) : 0;
    KB_AUTOFREE char *cut = kb_run_report_clean(json_string_value(message), keep);
    if (cut[0] == '\0')
        json_object_del(root, name);
    else
        json_object_set_new(root, name, need(json_string(cut)));
}

static void shorten(json_t *root, size_t max_bytes)
{
    if (json_size(root) <= max_bytes)
        return;
    json_object_set_new(root, SPECS[KB_REPORT_TRUNCATED].name, json_true());
    for (size_t i = 0; i < KB_ARRAY_LEN(SHORTENED_FIRST); i++)
        shorten_list(root, SPECS[SHORTENED_FIRST[i]].name, max_bytes);
    shorten_message(root, max_bytes);
    for (size_t i = 0; i < KB_ARRAY_LEN(DROPPED_LAST) && json_size(root) > max_bytes; i++)
        json_object_del(root, SPECS[DROPPED_LAST[i]].name);
}

kb_code kb_run_report_encode(const kb_run_report *report, kb_strbuf *out, kb_error *err)
{
    json_t *root = report_json(report);
    shorten(root, KB_RUN_REPORT_MAX_BYTES);
    char text[KB_RUN_REPORT_MAX_BYTES];
    size_t size = json_dumpb(root, text, sizeof text, KB_DUMP_FLAGS);
    json_decref(root);
    if (size == 0 || size > sizeof text)
        return kb_fail(err, KB_ERR_TOO_LARGE, "the run report has %zu bytes, more than %d", size,
                       KB_RUN_REPORT_MAX_BYTES);
    kb_strbuf_append(out, text, size);
    return kb_strbuf_check(out, "run report", err);
}
