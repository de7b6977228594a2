/* Fuzzes the reading of a kubeconfig. */
#include <stdlib.h>

#include "common/base/mem.h"
#include "operator/kube/kube_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KB_AUTO_ERROR(err);
    kb_kube_access *access = NULL;
    if (kb_kube_config_parse(kb_view_of(data, size), "/nowhere", "config", NULL, &access, &err) == KB_OK)
        kb_kube_access_free(access);
    return 0;
}
