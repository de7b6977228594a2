/*
 * conformance_storage - what every storage driver must do, run against any kb_storage.
 *
 * A driver's test gives a setup that sets *state to an open, writable, empty kb_storage and a teardown that
 * frees it; each case uses keys of its own. Cases that need a capability look at the store's.
 */
#ifndef KB_WORKER_TESTS_CONFORMANCE_STORAGE_H
#define KB_WORKER_TESTS_CONFORMANCE_STORAGE_H

/* Runs all cases as one cmocka group; the result of main. */
int kb_conformance_storage(const char *name, int (*setup)(void **state), int (*teardown)(void **state));

#endif
