/* What a registry answers and what people write: lists of hubs of Consul ('c') and Eureka ('e'), addresses of registries ('a'), our
 * own address ('o'); the first byte says which. Nothing but hosts and ports comes out of it. */
#include <assert.h>
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/advertise.h"
#include "agent/base/mem.h"
#include "uploader/registry/address.h"
#include "uploader/registry/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hubs(const struct dialect *d, const char *text, size_t len) {
    struct hubs h;

    hubs_init(&h, 1);
    (void)d->hubs(text, len, &h);
    assert(h.n <= LIMIT_HUBS);
    for (unsigned i = 0; i < h.n; i++) {
        const char *p = strstr(h.list[i].url, "://");

        assert(p != NULL);
        for (p += 3; *p != '\0'; p++)
            assert(isalnum((unsigned char)*p) || strchr(".-_:[]", *p) != NULL);
    }
}

static void address(const char *text) {
    struct registry_address a;

    if (registry_address_parse(&a, text, text, false, NULL) == 0) {
        assert(a.n <= LIMIT_REGISTRY_SERVERS);
        registry_address_clear(&a);
    }
    if (registry_address_parse(&a, "consul:", text, true, NULL) == 0)
        registry_address_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct advertise own;
    char *text;

    if (size == 0 || size > LIMIT_REGISTRY_ANSWER_BYTES)
        return 0;
    text = mem_strndup((const char *)data + 1, size - 1);
    if (text == NULL)
        return 0;
    switch (data[0]) {
    case 'c':
        hubs(&dialect_consul, (const char *)data + 1, size - 1);
        break;
    case 'e':
        hubs(&dialect_eureka, (const char *)data + 1, size - 1);
        break;
    case 'a':
        address(text);
        break;
    default:
        if (advertise_parse(&own, text) == 0)
            assert(own.host[0] != '\0' || own.port != 0 || strcmp(text, "found") == 0);
        break;
    }
    mem_free(text);
    assert(mem_live() == 0);
    return 0;
}
