#include "worker/kafka/kafka_trust.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define KB_SECRET_MAX_BYTES 65536
#define KB_TRUST_MAX_BYTES ((size_t)16 << 20)
#define KB_TRUST_MAX_FILES 1000

kb_code kb_kafka_read_secret(const char *path, kb_secret **ret_secret, kb_error *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    if (kb_file_read(path, KB_SECRET_MAX_BYTES, &data, &len, err) != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "reading a secret of the Kafka connection");
    size_t used = len > 0 && data[len - 1] == '\n' ? len - 1 : len;
    *ret_secret = kb_secret_new(data, used);
    kb_wipe(data, len);
    free(data);
    return KB_OK;
}

static bool is_absent(const char *path)
{
    return access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

static kb_code check_readable(const char *path, const char *key, kb_error *err)
{
    if (access(path, R_OK) == 0)
        return KB_OK;
    return kb_fail(err, KB_CONFIG_INVALID, "%s: cannot read '%s': %s", key, path, kb_errno_text(errno));
}

kb_code kb_kafka_has_client_certificate(const kb_kafka_options *options, bool *ret_has, kb_error *err)
{
    const char *certificate = options->ssl_certificate_file;
    const char *key = options->ssl_key_file;
    if (certificate == NULL && key == NULL) {
        *ret_has = false;
        return KB_OK;
    }
    if (certificate == NULL || key == NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "ssl_certificate_location and ssl_key_location are only valid together");
    if (options->ssl_client_auth_optional && is_absent(certificate) && is_absent(key)) {
        *ret_has = false;
        return KB_OK;
    }
    kb_code code = check_readable(certificate, "ssl_certificate_location", err);
    if (code == KB_OK)
        code = check_readable(key, "ssl_key_location", err);
    if (code == KB_OK)
        *ret_has = true;
    return code;
}

static int is_certificate_name(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    const char *end = len > 4 ? entry->d_name + len - 4 : "";
    return strcmp(end, ".crt") == 0 || strcmp(end, ".pem") == 0;
}

static kb_code append_certificates(const char *path, kb_strbuf *pem, kb_error *err)
{
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    if (kb_file_read(path, KB_TRUST_MAX_BYTES, &data, &len, err) != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "trust_dir");
    if (len == 0)
        return KB_OK;
    if (memchr(data, '\0', len) != NULL || strstr((char *)data, "-----BEGIN CERTIFICATE-----") == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "trust_dir: '%s' is not a PEM certificate", path);
    kb_strbuf_append(pem, data, len);
    kb_strbuf_appendc(pem, '\n');
    return KB_OK;
}

kb_code kb_kafka_trust_dir_pem(const char *trust_dir, char **ret_pem, kb_error *err)
{
    struct dirent **entries = NULL;
    int count = scandir(trust_dir, &entries, is_certificate_name, alphasort);
    if (count < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return kb_fail(err, KB_CONFIG_INVALID, "trust_dir: cannot list '%s': %s", trust_dir,
                           kb_errno_text(errno));
        *ret_pem = NULL;
        return KB_OK;
    }
    KB_AUTO_STRBUF(pem, KB_TRUST_MAX_BYTES);
    kb_code code = KB_OK;
    if (count > KB_TRUST_MAX_FILES)
        code = kb_fail(err, KB_CONFIG_INVALID, "trust_dir: '%s' has %d files, at most %d are read", trust_dir,
                       count, KB_TRUST_MAX_FILES);
    for (int i = 0; i < count; i++) {
        KB_AUTOFREE char *path = kb_asprintf("%s/%s", trust_dir, entries[i]->d_name);
        if (code == KB_OK)
            code = append_certificates(path, &pem, err);
        free(entries[i]);
    }
    free(entries);
    if (code != KB_OK)
        return code;
    if (kb_strbuf_check(&pem, "the certificates of trust_dir", err) != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "trust_dir '%s'", trust_dir);
    *ret_pem = pem.len > 0 ? kb_strbuf_take(&pem) : NULL;
    return KB_OK;
}

const char *kb_kafka_system_bundle(void)
{
    static const char *const PLACES[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(PLACES); i++)
        if (access(PLACES[i], R_OK) == 0)
            return PLACES[i];
    return NULL;
}
