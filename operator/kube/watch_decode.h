/*
 * watch_decode - the lines of a watch stream, from whatever pieces they arrive in.
 *
 * Each line is one JSON object with type and object. A line may be cut anywhere; it counts only with its
 * newline. Lines beyond the limit, JSON that does not parse or is nested deeper than 64, and unknown types
 * end the stream with an error, after which a fresh list is due. Pure. Threads: one at a time.
 */
#ifndef KB_OPERATOR_KUBE_WATCH_DECODE_H
#define KB_OPERATOR_KUBE_WATCH_DECODE_H

#include <jansson.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

#define KB_WATCH_LINE_MAX (8u << 20)
#define KB_KUBE_JSON_DEPTH 64

typedef struct kb_watch_decoder kb_watch_decoder;

typedef enum kb_watch_type {
    KB_WATCH_ADDED,
    KB_WATCH_MODIFIED,
    KB_WATCH_DELETED,
    KB_WATCH_BOOKMARK,
    KB_WATCH_ERROR /* the object is a Status; code 410 asks for a fresh list */
} kb_watch_type;

/* Called for each event; the object is borrowed. An error ends the feeding and is passed on. */
typedef kb_code (*kb_watch_fn)(void *ctx, kb_watch_type type, json_t *object, kb_error *err);

/* max_line 0: KB_WATCH_LINE_MAX. */
kb_watch_decoder *kb_watch_decoder_new(size_t max_line, kb_watch_fn on_event, void *ctx)
    __attribute__((returns_nonnull));
void kb_watch_decoder_free(kb_watch_decoder *owned_decoder);
/* KB_ERR_TOO_LARGE, KB_ERR_FORMAT, or what on_event gave. After an error nothing more may be fed. */
kb_code kb_watch_decoder_feed(kb_watch_decoder *decoder, kb_view part, kb_error *err) KB_CHECK;

/* Parses one JSON text of the server with the depth limit; no duplicate check. KB_ERR_FORMAT. */
kb_code kb_kube_json_parse(kb_view text, json_t **ret_value, kb_error *err) KB_CHECK;

#endif
