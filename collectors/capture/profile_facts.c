/* profile_facts.c - see profile_facts.h. A state machine over bytes; between quotes it runs with memchr(). */
#include "collectors/capture/profile_facts.h"

#include <string.h>

enum { SEEK, KEY, SAMPLES, COUNT, NUMBER };

void profile_facts_init(struct profile_facts *f) {
    memset(f, 0, sizeof(*f));
}

/* The key that has just come, with its colon. */
static int recognise(struct profile_facts *f) {
    f->key[f->key_len] = '\0';
    if (strcmp(f->key, "samples\":[") == 0) {
        f->samples = 0;
        return SAMPLES;
    }
    f->number = strcmp(f->key, "startTime\":") == 0 ? &f->start_us
                : strcmp(f->key, "endTime\":") == 0 ? &f->end_us
                                                    : NULL;
    if (f->number == NULL)
        return KEY;
    *f->number = 0;
    return NUMBER;
}

static int in_key(struct profile_facts *f, char c) {
    static const char *const KEYS[] = {"samples\":[", "startTime\":", "endTime\":"};

    f->key[f->key_len++] = c;
    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++)
        if (strncmp(KEYS[i], f->key, f->key_len) == 0)
            return recognise(f);
    f->key_len = 0;
    return c == '"' ? KEY : SEEK;
}

static int in_number(struct profile_facts *f, char c) {
    if (c < '0' || c > '9') {
        f->key_len = 0;
        return c == '"' ? KEY : SEEK;
    }
    *f->number = *f->number * 10 + (uint64_t)(c - '0');
    return NUMBER;
}

static int in_samples(struct profile_facts *f, char c) {
    if (c == ']')
        return SEEK;
    if (f->state == SAMPLES || c == ',')
        f->samples++;
    return COUNT;
}

void profile_facts_push(struct profile_facts *f, const char *data, size_t len) {
    const char *at = data, *end = data + len;

    while (at < end) {
        if (f->state == SEEK) {
            at = memchr(at, '"', (size_t)(end - at));
            if (at == NULL)
                return;
            f->state = KEY;
            f->key_len = 0;
            at++;
            continue;
        }
        if (f->state == KEY)
            f->state = in_key(f, *at);
        else if (f->state == NUMBER)
            f->state = in_number(f, *at);
        else
            f->state = in_samples(f, *at);
        at++;
    }
}
