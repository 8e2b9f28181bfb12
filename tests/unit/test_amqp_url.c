/* Addresses of brokers: what is taken, what is refused and with which words, and that no secret is in what is shown (P64). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/notify/amqp_url.h"

static void test_good(void **state) {
    static const struct {
        const char *text, *name, *host, *user, *password, *vhost, *exchange, *key;
        unsigned port, heartbeat;
    } cases[] = {
        {"amqp://mq?routing_key=q", "amqp://mq:5672/ routing_key=q", "mq", "guest", "guest", "/",
         "", "q", 5672, 20},
        {"amqps://mq/?exchange=e", "amqps://mq:5671/ exchange=e", "mq", "guest", "guest", "/", "e",
         "", 5671, 20},
        {"amqp://me:s%40c%2fret@10.0.0.7:80/%2f?exchange=e&routing_key=a.b&heartbeat=5",
         "amqp://10.0.0.7:80/ exchange=e routing_key=a.b", "10.0.0.7", "me", "s@c/ret", "/", "e",
         "a.b", 80, 5},
        {"amqps://me:x@[::1]:443/shop?routing_key=q+r%2B",
         "amqps://[::1]:443/shop routing_key=q r+", "::1", "me", "x", "shop", "", "q r+", 443, 20},
        {"amqp://me@mq/a%2fb%20c?routing_key=q", "amqp://mq:5672/a/b c routing_key=q", "mq", "me",
         "", "a/b c", "", "q", 5672, 20},
        {"amqp://me:a@b@mq?routing_key=q", "amqp://mq:5672/ routing_key=q", "mq", "me", "a@b", "/",
         "", "q", 5672, 20},
    };
    struct amqp_url u;
    struct buf b;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_init(&b, 1000);
        assert_int_equal(amqp_url_parse(&u, cases[i].text, &b), 0);
        amqp_url_name(&u, &b);
        assert_string_equal(b.data, cases[i].name);
        assert_string_equal(u.host, cases[i].host);
        assert_string_equal(u.user, cases[i].user);
        assert_string_equal(u.password, cases[i].password);
        assert_string_equal(u.vhost, cases[i].vhost);
        assert_string_equal(u.exchange, cases[i].exchange);
        assert_string_equal(u.routing_key, cases[i].key);
        assert_int_equal(u.port, cases[i].port);
        assert_int_equal(u.heartbeat_s, cases[i].heartbeat);
        amqp_url_clear(&u);
        buf_clear(&b);
    }
    assert_int_equal(mem_live(), 0);
}

static void test_bad(void **state) {
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"http://mq", "no amqp address"},
        {"amqp:mq", "no amqp address"},
        {"amqp://", "cannot be read"},
        {"amqp://me:hidden@/?routing_key=q", "cannot be read"},
        {"amqp://me:hidden@mq:0?routing_key=q", "cannot be read"},
        {"amqp://me:hidden@mq:70000?routing_key=q", "cannot be read"},
        {"amqp://me:hidden@mq", "neither exchange= nor routing_key="},
        {"amqp://me:hidden@mq/a/b?routing_key=q", "write it as %2f"},
        {"amqp://me:hidden@mq/%2?routing_key=q", "two hex digits"},
        {"amqp://me:hidden@mq/%00?routing_key=q", "control character"},
        {"amqp://me:hidden@mq?routing_key=%zz", "routing_key is not well encoded"},
        {"amqp://me:hidden@mq?routing_key=q&queue=a", "\"queue\" is not known"},
        {"amqp://me:hidden@mq?routing_key=q&heartbeat=1", "heartbeat takes seconds, 2 to 600"},
        {"amqp://me:hidden@mq?routing_key=q&heartbeat=20s", "heartbeat takes seconds"},
        {"amqp://me:hidden@mq?routing_key=q&heartbeat=999999999", "heartbeat takes seconds"},
    };
    struct amqp_url u;
    struct buf b;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_init(&b, 1000);
        assert_int_equal(amqp_url_parse(&u, cases[i].text, &b), -EINVAL);
        if (strstr(b.data, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].text, b.data);
        assert_null(strstr(b.data, "hidden"));
        buf_clear(&b);
    }
    assert_int_equal(mem_live(), 0);
}

static void test_long(void **state) {
    char text[600], name[300];
    struct amqp_url u;
    struct buf b;
    (void)state;

    buf_init(&b, 1000);
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    (void)snprintf(text, sizeof(text), "amqp://mq/v?routing_key=%s", name);
    assert_int_equal(amqp_url_parse(&u, text, &b), 0);
    amqp_url_clear(&u);
    (void)snprintf(text, sizeof(text), "amqp://mq/v?routing_key=%sx", name);
    assert_int_equal(amqp_url_parse(&u, text, &b), -EINVAL);
    (void)snprintf(text, sizeof(text), "amqp://mq/%sx?routing_key=q", name);
    assert_int_equal(amqp_url_parse(&u, text, &b), -EINVAL);
    buf_clear(&b);
}

static void test_memory(void **state) {
    struct amqp_url u;
    struct buf b;
    int rc = -ENOMEM;
    (void)state;

    for (long n = 1; rc == -ENOMEM; n++) {
        assert_true(n < 50);
        buf_init(&b, 1000);
        mem_fail_only(n);
        rc = amqp_url_parse(&u, "amqp://me:x@mq/v?exchange=e", &b);
        mem_fail_only(0);
        buf_clear(&b);
        assert_true(rc == 0 || mem_live() == 0);
    }
    assert_int_equal(rc, 0);
    amqp_url_clear(&u);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests_name("amqp_url", tests, NULL, NULL);
}
