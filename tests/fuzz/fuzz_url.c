/* Addresses of the configuration: whatever is written there, what is taken reads back as itself and shows no secret. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "uploader/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), shown[URL_SHOW_BYTES], value[64];
    struct url u, again;

    memcpy(text, data, size);
    text[size] = '\0';
    if (url_parse(&u, text) == 0) {
        (void)url_parameter(&u, "kind", value, sizeof(value));
        if (url_format(&u, "", shown, sizeof(shown)) == 0) {
            assert(strchr(shown, '@') == NULL || strchr(u.path, '@') != NULL);
            assert(url_parse(&again, shown) == 0);
            assert(again.port == u.port && again.tls == u.tls && strcmp(again.host, u.host) == 0);
            assert(strcmp(again.path, u.path) == 0 && again.user == NULL);
            url_clear(&again);
        }
        url_clear(&u);
    }
    free(text);
    return 0;
}
