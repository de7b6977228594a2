/*
 * cloud_fixture - a scripted service of a cloud and the connections to it; for tests of logins and drivers.
 *
 * Threads: those of the test.
 */
#ifndef KB_WORKER_TESTS_CLOUD_FIXTURE_H
#define KB_WORKER_TESTS_CLOUD_FIXTURE_H

#include "common/testing/http_script.h"
#include "worker/storage/store_net.h"

/* Plain HTTP is allowed, and nothing waits long between tries. Fails the test when it cannot be made. */
kb_store_net *cloud_net(void);

/* "HTTP/1.1 STATUS\r\nHEADERS...Content-Length: n\r\n\r\nBODY"; owned. headers end with "\r\n" each, or "".
 */
char *cloud_reply(const char *status, const char *headers, const char *body);

/* Fails the test unless the nth request contains each of the texts (the list ends with NULL). */
void cloud_expect(kb_http_script *script, unsigned n, const char *const *texts);

#endif
