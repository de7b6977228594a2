#include "worker/restore/topic_pattern.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/glob.h"
#include "common/base/mem.h"

#define KB_PATTERN_MAX_BYTES 4096
#define KB_PATTERN_MAX_DEPTH 64
#define KB_PATTERN_MAX_REPEAT 1000
#define KB_PATTERN_MAX_STEPS 20000
#define KB_PATTERN_MAX_EFFORT 200000
#define KB_NO_UPPER_BOUND (-1)

/* A set of bytes. */
typedef struct byte_set {
    uint8_t bits[32];
} byte_set;

typedef enum node_kind {
    NODE_EMPTY,
    NODE_SET,
    NODE_CAT,
    NODE_ALT,
    NODE_REPEAT,
    NODE_BEGIN,
    NODE_END
} node_kind;

/* A piece of an expression. Nodes live in one array, so that nothing has to be freed one by one. */
typedef struct node {
    node_kind kind;
    size_t left, right; /* CAT, ALT; REPEAT: left */
    int min, max;       /* REPEAT */
    byte_set set;
} node;

typedef enum step_kind { STEP_SET, STEP_SPLIT, STEP_JUMP, STEP_BEGIN, STEP_END, STEP_MATCH } step_kind;

typedef struct step {
    step_kind kind;
    size_t a, b; /* where to go on */
    byte_set set;
} step;

struct kb_topic_pattern {
    char *text;
    bool is_regex;
    step *steps;
    size_t step_count;
    size_t step_capacity;
    size_t effort; /* of making the steps: pieces that add none count too */
};

/* ---- parsing ---- */

typedef struct parser {
    const char *at;
    const char *problem; /* the first; static */
    unsigned depth;
    node *nodes;
    size_t count;
    size_t capacity;
} parser;

static size_t add_node(parser *p, node made)
{
    p->nodes = kb_grow(p->nodes, p->count, &p->capacity, sizeof *p->nodes);
    p->nodes[p->count] = made;
    return p->count++;
}

static size_t fail_at(parser *p, const char *problem)
{
    if (p->problem == NULL)
        p->problem = problem;
    return add_node(p, (node){.kind = NODE_EMPTY});
}

static void set_add(byte_set *set, unsigned from, unsigned to)
{
    for (unsigned c = from; c <= to; c++)
        set->bits[c / 8] = (uint8_t)(set->bits[c / 8] | 1u << c % 8);
}

static void set_invert(byte_set *set)
{
    for (size_t i = 0; i < sizeof set->bits; i++)
        set->bits[i] = (uint8_t)~set->bits[i];
}

static bool set_has(const byte_set *set, unsigned char c)
{
    return (set->bits[c / 8] >> c % 8 & 1) != 0;
}

static void set_join(byte_set *to, const byte_set *from)
{
    for (size_t i = 0; i < sizeof to->bits; i++)
        to->bits[i] |= from->bits[i];
}

/* The set that a letter after a backslash stands for; false when it stands for none. */
static bool named_set(char letter, byte_set *ret_set)
{
    byte_set set = {{0}};
    switch (letter | 0x20) {
    case 'd':
        set_add(&set, '0', '9');
        break;
    case 'w':
        set_add(&set, '0', '9');
        set_add(&set, 'a', 'z');
        set_add(&set, 'A', 'Z');
        set_add(&set, '_', '_');
        break;
    case 's':
        set_add(&set, '\t', '\r');
        set_add(&set, ' ', ' ');
        break;
    default:
        return false;
    }
    if (letter < 'a')
        set_invert(&set);
    *ret_set = set;
    return true;
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* After a backslash: a named set, or one byte of punctuation. */
static bool parse_escape(parser *p, byte_set *set, int *ret_single)
{
    char c = *p->at;
    byte_set named;
    *ret_single = -1;
    if (c == '\0' || (!named_set(c, &named) && is_word(c))) {
        (void)fail_at(p, "unknown escape after '\\'");
        return false;
    }
    p->at++;
    if (named_set(c, &named)) {
        set_join(set, &named);
        return true;
    }
    *ret_single = (unsigned char)c;
    set_add(set, (unsigned char)c, (unsigned char)c);
    return true;
}

/* One item of a class: a byte, a range or a named set. */
static bool parse_class_item(parser *p, byte_set *set)
{
    int low = (unsigned char)*p->at++;
    if (low == '\\' && !parse_escape(p, set, &low))
        return false;
    if (low < 0)
        return true;
    if (p->at[0] != '-' || p->at[1] == ']' || p->at[1] == '\0') {
        set_add(set, (unsigned)low, (unsigned)low);
        return true;
    }
    p->at++;
    int high = (unsigned char)*p->at++;
    byte_set ignored = {{0}};
    if (high == '\\' && !parse_escape(p, &ignored, &high))
        return false;
    if (high < low) {
        (void)fail_at(p, "a range in a class goes downwards");
        return false;
    }
    set_add(set, (unsigned)low, (unsigned)high);
    return true;
}

static size_t parse_class(parser *p)
{
    byte_set set = {{0}};
    bool inverted = *p->at == '^';
    if (inverted)
        p->at++;
    bool is_first = true;
    while (*p->at != ']' || is_first) {
        if (*p->at == '\0')
            return fail_at(p, "'[' without ']'");
        is_first = false;
        if (!parse_class_item(p, &set))
            return fail_at(p, "broken class");
    }
    p->at++;
    if (inverted)
        set_invert(&set);
    return add_node(p, (node){.kind = NODE_SET, .set = set});
}

static size_t parse_alternatives(parser *p);

static size_t parse_group(parser *p)
{
    if (strncmp(p->at, "?:", 2) == 0)
        p->at += 2;
    else if (*p->at == '?')
        return fail_at(p, "only '(?:' is known of the groups that begin with '(?'");
    if (++p->depth > KB_PATTERN_MAX_DEPTH)
        return fail_at(p, "groups are nested too deep");
    size_t inner = parse_alternatives(p);
    p->depth--;
    if (*p->at != ')')
        return fail_at(p, "'(' without ')'");
    p->at++;
    return inner;
}

static size_t parse_atom(parser *p)
{
    byte_set set = {{0}};
    int single;
    char c = *p->at++;
    switch (c) {
    case '(':
        return parse_group(p);
    case '[':
        return parse_class(p);
    case '^':
        return add_node(p, (node){.kind = NODE_BEGIN});
    case '$':
        return add_node(p, (node){.kind = NODE_END});
    case '.':
        set_add(&set, 0, 255);
        break;
    case '\\':
        if (!parse_escape(p, &set, &single))
            return fail_at(p, "broken escape");
        break;
    case '*':
    case '+':
    case '?':
    case '{':
        return fail_at(p, "a quantifier has nothing to repeat");
    default:
        set_add(&set, (unsigned char)c, (unsigned char)c);
    }
    return add_node(p, (node){.kind = NODE_SET, .set = set});
}

static bool parse_number(parser *p, int *ret_number)
{
    int number = 0;
    const char *start = p->at;
    while (*p->at >= '0' && *p->at <= '9' && number <= KB_PATTERN_MAX_REPEAT)
        number = number * 10 + (*p->at++ - '0');
    *ret_number = number;
    return p->at > start && number <= KB_PATTERN_MAX_REPEAT;
}

/* "{n}", "{n,}", "{n,m}", at the brace. */
static bool parse_braces(parser *p, int *ret_min, int *ret_max)
{
    p->at++;
    if (!parse_number(p, ret_min))
        return false;
    *ret_max = *ret_min;
    if (*p->at == ',') {
        p->at++;
        *ret_max = KB_NO_UPPER_BOUND;
        if (*p->at != '}' && (!parse_number(p, ret_max) || *ret_max < *ret_min))
            return false;
    }
    return *p->at++ == '}';
}

static size_t parse_repeated(parser *p)
{
    size_t atom = parse_atom(p);
    while (p->problem == NULL && *p->at != '\0' && strchr("*+?{", *p->at) != NULL) {
        int min = *p->at == '+' ? 1 : 0;
        int max = *p->at == '?' ? 1 : KB_NO_UPPER_BOUND;
        if (*p->at != '{')
            p->at++;
        else if (!parse_braces(p, &min, &max))
            return fail_at(p, "broken '{n,m}' (at most 1000)");
        if (*p->at == '?')
            p->at++;
        atom = add_node(p, (node){.kind = NODE_REPEAT, .left = atom, .min = min, .max = max});
    }
    return atom;
}

static size_t parse_sequence(parser *p)
{
    size_t sequence = add_node(p, (node){.kind = NODE_EMPTY});
    while (p->problem == NULL && *p->at != '\0' && *p->at != '|' && *p->at != ')') {
        size_t next = parse_repeated(p);
        sequence = add_node(p, (node){.kind = NODE_CAT, .left = sequence, .right = next});
    }
    return sequence;
}

static size_t parse_alternatives(parser *p)
{
    size_t all = parse_sequence(p);
    while (p->problem == NULL && *p->at == '|') {
        p->at++;
        size_t next = parse_sequence(p);
        all = add_node(p, (node){.kind = NODE_ALT, .left = all, .right = next});
    }
    return all;
}

/* ---- from pieces to steps ---- */

static size_t add_step(kb_topic_pattern *pattern, step made)
{
    pattern->steps =
        kb_grow(pattern->steps, pattern->step_count, &pattern->step_capacity, sizeof *pattern->steps);
    pattern->steps[pattern->step_count] = made;
    return pattern->step_count++;
}

static bool emit(kb_topic_pattern *pattern, const node *nodes, size_t at);

static bool emit_alternative(kb_topic_pattern *pattern, const node *nodes, const node *n)
{
    size_t split = add_step(pattern, (step){.kind = STEP_SPLIT, .a = pattern->step_count + 1});
    if (!emit(pattern, nodes, n->left))
        return false;
    size_t jump = add_step(pattern, (step){.kind = STEP_JUMP});
    pattern->steps[split].b = pattern->step_count;
    if (!emit(pattern, nodes, n->right))
        return false;
    pattern->steps[jump].a = pattern->step_count;
    return true;
}

static bool emit_repeat(kb_topic_pattern *pattern, const node *nodes, const node *n)
{
    for (int i = 0; i < n->min; i++)
        if (!emit(pattern, nodes, n->left))
            return false;
    if (n->max == KB_NO_UPPER_BOUND) {
        size_t split = add_step(pattern, (step){.kind = STEP_SPLIT, .a = pattern->step_count + 1});
        if (!emit(pattern, nodes, n->left))
            return false;
        (void)add_step(pattern, (step){.kind = STEP_JUMP, .a = split});
        pattern->steps[split].b = pattern->step_count;
        return true;
    }
    for (int i = n->min; i < n->max; i++) {
        size_t split = add_step(pattern, (step){.kind = STEP_SPLIT, .a = pattern->step_count + 1});
        if (!emit(pattern, nodes, n->left))
            return false;
        pattern->steps[split].b = pattern->step_count;
    }
    return true;
}

/* False when the expression is too large. */
static bool emit(kb_topic_pattern *pattern, const node *nodes, size_t at)
{
    const node *n = &nodes[at];
    if (pattern->step_count > KB_PATTERN_MAX_STEPS || pattern->effort++ > KB_PATTERN_MAX_EFFORT)
        return false;
    switch (n->kind) {
    case NODE_EMPTY:
        return true;
    case NODE_SET:
        (void)add_step(pattern, (step){.kind = STEP_SET, .set = n->set});
        return true;
    case NODE_BEGIN:
    case NODE_END:
        (void)add_step(pattern, (step){.kind = n->kind == NODE_BEGIN ? STEP_BEGIN : STEP_END});
        return true;
    case NODE_CAT:
        return emit(pattern, nodes, n->left) && emit(pattern, nodes, n->right);
    case NODE_ALT:
        return emit_alternative(pattern, nodes, n);
    case NODE_REPEAT:
        return emit_repeat(pattern, nodes, n);
    }
    return false;
}

static kb_code compile(kb_topic_pattern *pattern, kb_error *err)
{
    parser p = {.at = pattern->text + 1};
    size_t root = parse_alternatives(&p);
    if (p.problem == NULL && *p.at != '\0')
        (void)fail_at(&p, "')' without '('");
    if (p.problem == NULL && !emit(pattern, p.nodes, root))
        p.problem = "too large";
    (void)add_step(pattern, (step){.kind = STEP_MATCH});
    free(p.nodes);
    if (p.problem != NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "topic pattern '%s': %s (at character %zu)", pattern->text,
                       p.problem, (size_t)(p.at - pattern->text) + 1);
    return KB_OK;
}

/* ---- matching ---- */

/* The steps that are alive at one position: all reachable ones, each once. */
typedef struct alive {
    size_t *list;
    size_t count;
    bool *seen;
} alive;

/* Where in the name: STEP_BEGIN and STEP_END ask for it. */
typedef struct place {
    bool is_begin;
    bool is_end;
} place;

/* Follows everything that reads no byte from `first` on. Uses the list itself as the stack. */
static void enter(const kb_topic_pattern *pattern, alive *to, size_t first, place where)
{
    size_t next = to->count;
    if (!to->seen[first]) {
        to->seen[first] = true;
        to->list[to->count++] = first;
    }
    for (; next < to->count; next++) {
        const step *s = &pattern->steps[to->list[next]];
        size_t targets[2];
        size_t target_count = 0;
        if (s->kind == STEP_SPLIT || s->kind == STEP_JUMP)
            targets[target_count++] = s->a;
        if (s->kind == STEP_SPLIT)
            targets[target_count++] = s->b;
        if ((s->kind == STEP_BEGIN && where.is_begin) || (s->kind == STEP_END && where.is_end))
            targets[target_count++] = to->list[next] + 1;
        for (size_t i = 0; i < target_count; i++) {
            if (to->seen[targets[i]])
                continue;
            to->seen[targets[i]] = true;
            to->list[to->count++] = targets[i];
        }
    }
}

static bool has_match(const kb_topic_pattern *pattern, const alive *now)
{
    for (size_t i = 0; i < now->count; i++)
        if (pattern->steps[now->list[i]].kind == STEP_MATCH)
            return true;
    return false;
}

static void advance(const kb_topic_pattern *pattern, const alive *now, alive *next, const char *at)
{
    next->count = 0;
    memset(next->seen, 0, pattern->step_count);
    for (size_t i = 0; i < now->count; i++) {
        const step *s = &pattern->steps[now->list[i]];
        if (s->kind == STEP_SET && set_has(&s->set, (unsigned char)*at))
            enter(pattern, next, now->list[i] + 1, (place){false, at[1] == '\0'});
    }
}

static bool match_regex(const kb_topic_pattern *pattern, const char *name)
{
    size_t count = pattern->step_count;
    KB_AUTOFREE size_t *lists = kb_calloc(2 * count, sizeof *lists);
    KB_AUTOFREE bool *seen = kb_calloc(2 * count, sizeof *seen);
    alive now = {lists, 0, seen};
    alive next = {lists + count, 0, seen + count};
    enter(pattern, &now, 0, (place){true, *name == '\0'});
    for (const char *at = name;; at++) {
        if (has_match(pattern, &now))
            return true;
        if (*at == '\0')
            return false;
        advance(pattern, &now, &next, at);
        /* The match may begin at any byte. */
        enter(pattern, &next, 0, (place){false, at[1] == '\0'});
        alive swap = now;
        now = next;
        next = swap;
    }
}

/* ---- the module ---- */

kb_code kb_topic_pattern_new(const char *text, kb_topic_pattern **ret_pattern, kb_error *err)
{
    if (strlen(text) > KB_PATTERN_MAX_BYTES)
        return kb_fail(err, KB_CONFIG_INVALID, "topic pattern of more than %d bytes", KB_PATTERN_MAX_BYTES);
    kb_topic_pattern *pattern = kb_calloc(1, sizeof *pattern);
    pattern->text = kb_strdup(text);
    pattern->is_regex = text[0] == '~';
    if (pattern->is_regex && compile(pattern, err) != KB_OK) {
        kb_topic_pattern_free(pattern);
        return err->code;
    }
    *ret_pattern = pattern;
    return KB_OK;
}

void kb_topic_pattern_free(kb_topic_pattern *owned_pattern)
{
    if (owned_pattern == NULL)
        return;
    free(owned_pattern->steps);
    free(owned_pattern->text);
    free(owned_pattern);
}

bool kb_topic_pattern_match(const kb_topic_pattern *pattern, const char *name)
{
    return pattern->is_regex ? match_regex(pattern, name) : kb_glob_match(pattern->text, name);
}

bool kb_topic_pattern_is_literal(const kb_topic_pattern *pattern)
{
    return !pattern->is_regex && kb_glob_is_literal(pattern->text);
}

const char *kb_topic_pattern_text(const kb_topic_pattern *pattern)
{
    return pattern->text;
}

kb_code kb_topic_patterns_init(kb_topic_patterns *patterns, char *const *texts, size_t count, kb_error *err)
{
    *patterns = (kb_topic_patterns){kb_calloc(count > 0 ? count : 1, sizeof(kb_topic_pattern *)), 0};
    for (size_t i = 0; i < count; i++) {
        if (kb_topic_pattern_new(texts[i], &patterns->items[i], err) != KB_OK) {
            kb_topic_patterns_done(patterns);
            return err->code;
        }
        patterns->count++;
    }
    return KB_OK;
}

void kb_topic_patterns_done(kb_topic_patterns *patterns)
{
    for (size_t i = 0; i < patterns->count; i++)
        kb_topic_pattern_free(patterns->items[i]);
    free(patterns->items);
    *patterns = (kb_topic_patterns){0};
}

bool kb_topic_patterns_match(const kb_topic_patterns *patterns, const char *name)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (kb_topic_pattern_match(patterns->items[i], name))
            return true;
    return false;
}
