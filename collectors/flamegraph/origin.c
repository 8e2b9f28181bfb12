#include "collectors/flamegraph/origin.h"

#include <stdbool.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define FOLDER     "node_modules"
#define FOLDER_LEN (sizeof(FOLDER) - 1)

static bool slash(char c) {
    return c == '/' || c == '\\';
}

/* Behind the last /node_modules/ (packages lie inside each other, and pnpm's store has two of them), with either slash. */
static const char *package_begin(const char *url) {
    const char *found = NULL;

    for (const char *p = strstr(url, FOLDER); p != NULL; p = strstr(p + 1, FOLDER))
        if ((p == url || slash(p[-1])) && slash(p[FOLDER_LEN]) && p[FOLDER_LEN + 1] != '\0')
            found = p + FOLDER_LEN + 1;
    return found;
}

static size_t package_len(const char *p) {
    size_t n = strcspn(p, "/\\");

    if (p[0] == '@' && p[n] != '\0')
        n += 1 + strcspn(p + n + 1, "/\\");
    return n;
}

static enum origin without_url(const char *name) {
    if (strcmp(name, "(garbage collector)") == 0)
        return ORIGIN_GC;
    if (strcmp(name, "(idle)") == 0)
        return ORIGIN_IDLE;
    if (strcmp(name, "(root)") == 0)
        return ORIGIN_ROOT;
    return ORIGIN_NATIVE;
}

enum origin origin_of(const char *name, const char *url, const char **ret_package,
                      size_t *ret_len) {
    const char *package;

    if (url[0] == '\0')
        return without_url(name);
    if (text_starts(url, "node:"))
        return ORIGIN_CORE;
    if (text_starts(url, "wasm:"))
        return ORIGIN_NATIVE;
    package = package_begin(url);
    if (package != NULL && package_len(package) > 0) {
        *ret_package = package;
        *ret_len = package_len(package);
        return ORIGIN_PACKAGE;
    }
    return ORIGIN_APP;
}

const char *origin_name(enum origin origin) {
    static const char *const names[ORIGINS] = {"root",   "app", "package", "node",
                                               "native", "gc",  "idle"};

    return names[origin];
}
