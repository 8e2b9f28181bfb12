/* The address that others are told: as given, as the environment says, as the route says. */
#include "agent/advertise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

static void good(const char *text, const char *host, unsigned port) {
    struct advertise a;

    if (advertise_parse(&a, text) != 0)
        fail_msg("%s is refused", text);
    assert_string_equal(a.host, host);
    assert_int_equal(a.port, port);
}

static void test_given(void **state) {
    static const char *const bad[] = {"",       ":",         "a:",  "a:0",    "a:65536",  "a:x",
                                      "a:-1",   "a b",       "a/b", "a:1:2",  "[::1",     "[::1]x",
                                      "[::1]:", "[a]:1",     "-a",  "[]",     "http://a", "a\nb",
                                      "[::1]]", "10.0.0.1:", ".a",  "[::1]:0"};
    struct advertise a = {.host = "kept", .port = 7};
    char longest[300];

    (void)state;
    good("found", "", 0);
    good("10.0.0.1", "10.0.0.1", 0);
    good("10.0.0.1:7468", "10.0.0.1", 7468);
    good("node-1.example", "node-1.example", 0);
    good("node_1:65535", "node_1", 65535);
    good(":7468", "", 7468);
    good("fd00::1", "fd00::1", 0);
    good("[fd00::1]:7468", "fd00::1", 7468);
    good("[fd00::1]", "fd00::1", 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (advertise_parse(&a, bad[i]) != -EINVAL)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_string_equal(a.host, "kept");
    }
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(advertise_parse(&a, longest), -EINVAL);
    longest[253] = '\0';
    assert_int_equal(advertise_parse(&a, longest), 0);
}

static void test_local(void **state) {
    (void)state;
    assert_true(advertise_is_local("127.0.0.1"));
    assert_true(advertise_is_local("127.9.9.9"));
    assert_true(advertise_is_local("0.0.0.0"));
    assert_true(advertise_is_local("::1"));
    assert_true(advertise_is_local("::"));
    assert_true(advertise_is_local("fe80::1"));
    assert_false(advertise_is_local("10.0.0.1"));
    assert_false(advertise_is_local("fd00::1"));
    assert_false(advertise_is_local("consul"));
}

static bool is_ours(const char *ip) {
    struct ifaddrs *all = NULL;
    bool found = false;
    char text[64];

    assert_int_equal(getifaddrs(&all), 0);
    for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
        int family = i->ifa_addr != NULL ? i->ifa_addr->sa_family : 0;

        if (family == AF_INET)
            found |= inet_ntop(family, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, text,
                               sizeof(text)) != NULL &&
                     strcmp(text, ip) == 0;
        if (family == AF_INET6)
            found |= inet_ntop(family, &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr,
                               text, sizeof(text)) != NULL &&
                     strcmp(text, ip) == 0;
    }
    freeifaddrs(all);
    return found;
}

static void test_route(void **state) {
    char out[ADVERTISE_BYTES] = "";

    (void)state;
    assert_int_equal(advertise_route(out, "127.0.0.1"), 0);
    assert_string_equal(out, "127.0.0.1");
    assert_int_equal(advertise_route(out, "a name"), -EINVAL);
    if (advertise_route(out, NULL) == 0)
        assert_true(is_ours(out));
}

static void test_order(void **state) {
    struct advertise given = {.host = "10.9.9.9"}, none = {.port = 5};
    char out[ADVERTISE_BYTES];

    (void)state;
    advertise_find(out, &given, "10.1.1.1", "10.2.2.2");
    assert_string_equal(out, "10.9.9.9");
    advertise_find(out, &none, "10.1.1.1", "10.2.2.2");
    assert_string_equal(out, "10.1.1.1");
    /* what is no address, or nobody's, is passed over; a registry on loopback does not make us loopback */
    advertise_find(out, &none, "127.0.0.1", "127.0.0.1");
    assert_false(advertise_is_local(out));
    advertise_find(out, &none, "nonsense", "consul.example");
    assert_false(advertise_is_local(out));
    if (out[0] != '\0')
        assert_true(is_ours(out));
    advertise_find(out, &none, NULL, NULL);
    assert_false(advertise_is_local(out));
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given),
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
