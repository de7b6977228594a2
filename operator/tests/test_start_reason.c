#include "operator/jobs/start_reason.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/tests/decide_fixture.h"

#define WAITING(reason, message) \
    "[{'status':{'containerStatuses':[{'name':'worker','state':{'waiting':{'reason':'" reason \
    "','message':'" message "'}}}]}}]"
#define UNSCHEDULED(message) \
    "[{'status':{'conditions':[{'type':'PodScheduled','status':'False','reason':'Unschedulable','message':" \
    "'" message "'}]}}]"
#define EVENT(reason, message) \
    "[{'reason':'Scheduled','message':'ok','lastTimestamp':'2024-12-01T12:01:00Z'},{'reason':'" reason \
    "','message':'" message "','lastTimestamp':'2024-12-01T12:00:00Z'}]"

/* operator.md section 8. */
static void kb_start_reason_of_row_gives_reason(void **state)
{
    (void)state;
    static const struct {
        const char *pods, *events, *reason, *message;
    } rows[] = {
        {"[]", "[]", NULL, NULL},
        {UNSCHEDULED("0/3 nodes are available"), "[]", "Unschedulable", "0/3 nodes are available"},
        {UNSCHEDULED("persistentvolumeclaim \\'data\\' not found"), "[]", "ClaimNotFound",
         "persistentvolumeclaim \"data\" not found"},
        {WAITING("ErrImagePull", "no such image"), "[]", "ImagePullFailed", "no such image"},
        {WAITING("ImagePullBackOff", ""), "[]", "ImagePullFailed", "ImagePullBackOff"},
        {WAITING("InvalidImageName", "bad"), "[]", "ImagePullFailed", "bad"},
        {WAITING("ContainerCreating", ""), "[]", NULL, NULL},
        {"[]",
         EVENT("FailedMount",
               "MountVolume.SetUp failed for volume \\'kafka-auth\\' : secret \\'kafka-tls\\' not found"),
         "SecretNotFound", "Secret 'kafka-tls' not found"},
        {"[]",
         EVENT("FailedMount", "MountVolume.SetUp failed for volume \\'store-auth\\' : references "
                              "non-existent secret key: user"),
         "SecretKeyNotFound", "Key 'user' not found in the secret of volume 'store-auth'"},
        {"[]",
         EVENT("FailedMount",
               "MountVolume.SetUp failed for volume \\'run-config\\' : configmap \\'x\\' not found"),
         "ConfigMapNotFound", "ConfigMap 'x' not found"},
        {"[]", EVENT("FailedAttachVolume", "Multi-Attach error"), "VolumeFailed", "Multi-Attach error"},
        {"[]", EVENT("FailedCreate", "pods is forbidden: exceeded quota: q"), "QuotaExceeded",
         "pods is forbidden: exceeded quota: q"},
        {"[]", EVENT("FailedCreate", "violates PodSecurity \\'restricted:latest\\'"), "PodRejected",
         "violates PodSecurity \"restricted:latest\""},
        {"[]",
         EVENT("FailedCreate", "error looking up service account ns/sa: serviceaccount \\'sa\\' not found"),
         "ServiceAccountNotFound", "error looking up service account ns/sa: serviceaccount \"sa\" not found"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_TREE(pods);
        KB_AUTO_TREE(events);
        pods = kb_test_json(rows[i].pods);
        events = kb_test_json(rows[i].events);
        kb_start_reason reason;
        kb_start_reason_of(pods, events, &reason);
        if (rows[i].reason == NULL) {
            assert_null(reason.reason);
        } else {
            assert_non_null(reason.reason);
            assert_string_equal(reason.reason, rows[i].reason);
            assert_string_equal(reason.message, rows[i].message);
        }
        kb_start_reason_done(&reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kb_start_reason_of_row_gives_reason)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
