#include "agent/appname.h"

#include <fcntl.h>
#include <jansson.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"

#define PACKAGE_BYTES 65536 /* a larger package.json is not looked at */

static char *from_package(void) {
    char *text = mem_alloc(PACKAGE_BYTES), *name = NULL;
    json_t *root = NULL;
    const char *s;
    ssize_t n;

    if (text == NULL)
        return NULL;
    n = fs_read_at(AT_FDCWD, "package.json", text, PACKAGE_BYTES);
    if (n > 0 && n < PACKAGE_BYTES - 1)
        root = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
    s = json_string_value(json_object_get(root, "name"));
    if (s != NULL && s[0] != '\0')
        name = mem_strdup(s);
    json_decref(root);
    mem_free(text);
    return name;
}

char *appname_find(const char *given) {
    char *name = given != NULL ? mem_strdup(given) : from_package();

    return name != NULL ? name : mem_strdup("app");
}
