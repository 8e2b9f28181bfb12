#include "uploader/authorities.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define LOOK_AT 2000 /* entries of a folder: a hashed one has a link among its first few hundred */

static const char *const folders[] = {"/etc/ssl/certs", "/etc/pki/tls/certs"};
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch, distroless */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem", /* SUSE */
    "/etc/ssl/cert.pem",      /* Alpine, BSD */
};

/* "1d3472b9.0": what openssl rehash makes. */
static bool hashed_name(const char *name) {
    for (int i = 0; i < 8; i++)
        if (!isxdigit((unsigned char)name[i]))
            return false;
    return name[8] == '.' && isdigit((unsigned char)name[9]);
}

static bool hashed_folder(const char *path) {
    DIR *d = opendir(path);
    struct dirent *e;
    bool found = false;

    if (d == NULL)
        return false;
    for (int i = 0; i < LOOK_AT && !found && (e = readdir(d)) != NULL; i++)
        found = hashed_name(e->d_name);
    (void)closedir(d); /* was only read */
    return found;
}

static bool is_folder(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static const char *environment(const char *name) {
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static void find_system(struct authorities *a) {
    const char *extra = environment("NODE_EXTRA_CA_CERTS");

    for (size_t i = 0; i < ARRAY_LEN(folders) && a->dir[0] == '\0'; i++)
        if (hashed_folder(folders[i]))
            (void)text_copy(a->dir, sizeof(a->dir), folders[i]);
    for (size_t i = 0; i < ARRAY_LEN(bundles) && a->dir[0] != '\0' && extra != NULL; i++)
        if (strcmp(extra, bundles[i]) == 0)
            extra = NULL; /* the same ones as in the folder */
    if (extra != NULL && access(extra, R_OK) == 0)
        (void)text_copy(a->file, sizeof(a->file), extra);
    for (size_t i = 0; i < ARRAY_LEN(bundles) && a->dir[0] == '\0' && a->file[0] == '\0'; i++)
        if (access(bundles[i], R_OK) == 0)
            (void)text_copy(a->file, sizeof(a->file), bundles[i]);
}

void authorities_find(struct authorities *ret, const char *configured) {
    const char *file = configured, *dir = NULL;

    *ret = (struct authorities){0};
    if (file == NULL) {
        file = environment("SSL_CERT_FILE");
        dir = environment("SSL_CERT_DIR");
    }
    if (file == NULL && dir == NULL)
        file = environment("CURL_CA_BUNDLE");
    if (file != NULL && is_folder(file)) {
        dir = file;
        file = NULL;
    }
    if (file != NULL)
        (void)text_copy(ret->file, sizeof(ret->file), file); /* cut: will not be found, and said */
    if (dir != NULL)
        (void)text_copy(ret->dir, sizeof(ret->dir), dir);
    if (file == NULL && dir == NULL)
        find_system(ret);
    if (ret->file[0] == '\0' && ret->dir[0] == '\0')
        (void)text_copy(ret->text, sizeof(ret->text),
                        "no certificates of authorities were found; looked at PILLION_CA_FILE, "
                        "SSL_CERT_FILE, SSL_CERT_DIR, CURL_CA_BUNDLE, NODE_EXTRA_CA_CERTS, "
                        "/etc/ssl/certs and /etc/pki/tls/certs");
    else
        (void)snprintf(ret->text, sizeof(ret->text), "authorities: %.230s%s%.230s", ret->dir,
                       ret->dir[0] != '\0' && ret->file[0] != '\0' ? " and " : "", ret->file);
}
