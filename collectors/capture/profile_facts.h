/* profile_facts.h - picks samples, startTime and endTime out of a CPU profile that streams by, in pieces of any size.
 *
 * Both of V8's writers put each of them behind its quoted key; a quote inside a string is escaped, so that a key cannot be taken
 * for one. No allocation. */
#ifndef PILLION_CAPTURE_PROFILE_FACTS_H
#define PILLION_CAPTURE_PROFILE_FACTS_H

#include <stddef.h>
#include <stdint.h>

struct profile_facts {
    uint64_t samples, start_us, end_us;
    int state; /* private from here */
    char key[16];
    size_t key_len;
    uint64_t *number;
};

void profile_facts_init(struct profile_facts *f);
void profile_facts_push(struct profile_facts *f, const char *data, size_t len);

#endif
