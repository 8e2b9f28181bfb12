/* Addresses of brokers: whatever is written there, what is taken is within its bounds, and no password is in what is shown. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "uploader/notify/amqp_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    struct amqp_url u;
    struct buf b;
    int rc;

    memcpy(text, data, size);
    text[size] = '\0';
    buf_init(&b, 8192);
    rc = amqp_url_parse(&u, text, &b);
    if (rc == 0) {
        assert(b.len == 0 && u.port != 0 && u.vhost[0] != '\0' && u.host[0] != '\0');
        assert(u.exchange[0] != '\0' || u.routing_key[0] != '\0');
        amqp_url_name(&u, &b);
        assert(b.err == 0 && strpbrk(b.data, "\n\t\x7f") == NULL);
        amqp_url_clear(&u);
    } else {
        assert(b.len > 0 && u.host == NULL);
    }
    buf_clear(&b);
    free(text);
    return 0;
}
