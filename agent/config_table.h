/* config_table.h - the rows of the one configuration table, between config.c (which holds and reads it), config_values.c
 * (values) and config_docs.c (which writes it down). Nobody else includes this. */
#ifndef PILLION_CONFIG_TABLE_H
#define PILLION_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/config.h"

enum option_kind {
    OPTION_NAME,      /* char *: text for people and paths */
    OPTION_PATH,      /* char *: an absolute directory, `most` bytes long at most (0: PATH_MAX) */
    OPTION_FILE,      /* char *: an absolute path of what is read */
    OPTION_SECRET,    /* char *: one line of printable ASCII without blanks */
    OPTION_SINK,      /* char *: list of sinks */
    OPTION_REGISTRY,  /* char *: address of a registry */
    OPTION_ADVERTISE, /* char *: our own address */
    OPTION_LISTEN,    /* char *: address of the command port, or none */
    OPTION_STORE,     /* char *: file store */
    OPTION_NOTIFY,    /* char *: list of those who are told */
    OPTION_ACTIONS, /* unsigned: a bit for each action of collectors/capture.h; `most` has those that are accepted */
    OPTION_RATE,     /* unsigned: so many an hour, least to most */
    OPTION_KEEP,     /* struct config_keep */
    OPTION_DURATION, /* uint64_t, ms, least to most */
    OPTION_SIZE,     /* uint64_t, bytes, least to most */
    OPTION_PERCENT,  /* double, share; least and most in percent */
    OPTION_CHOICE,   /* enum: the place of the word in `words` */
};

struct option {
    const char *name;
    const char *fallback; /* what holds when it is not given; text for people when `found` */
    const char *accepted; /* for people, without a full stop */
    const char *meaning;  /* one sentence without a full stop */
    size_t where;         /* offset in struct config */
    uint64_t least;
    uint64_t most;
    const char *const *words; /* of a choice, NULL-terminated */
    enum option_kind kind;
    bool found;   /* the default is looked up when the program starts */
    bool secret;  /* its value is never shown */
    bool in_file; /* may also come as NAME_FILE: the file that holds it */
};

extern const struct option config_options[];
extern const size_t config_options_count;

#define CONFIG_NAME_BYTES 255 /* of an application's or container's name */

/* 1 to CONFIG_NAME_BYTES bytes of UTF-8 without control characters. */
bool config_printable(const char *s);
/* Takes the whole value or leaves *c as it is: -EINVAL it is not of the row's kind, -ERANGE, -ENOMEM. */
int config_parse(struct config *c, const struct option *o, const char *value);
/* "stack,report", or "none". */
void config_write_actions(unsigned actions, char *out, size_t size);
/* What is to be said of a value that is not of this kind: "is not a duration such as 10s". */
const char *config_wrong(enum option_kind kind);

#endif
