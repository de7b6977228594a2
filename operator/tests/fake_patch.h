/*
 * fake_patch - the patches that fake_api understands: JSON merge patch (RFC 7386) and JSON patch (RFC 6902
 * without move and copy). Pure.
 */
#ifndef KB_OPERATOR_TESTS_FAKE_PATCH_H
#define KB_OPERATOR_TESTS_FAKE_PATCH_H

#include <stdbool.h>

#include <jansson.h>

/* Merges `patch` into the object; null removes. */
void kb_fake_merge(json_t *object, const json_t *patch);
/* Applies a list of operations to *object; false when one of them fails, *object is then in between. */
bool kb_fake_json_patch(json_t **object, const json_t *operations);

#endif
