/* counters.h - what happened, counted since the process started; shown in /status and /metrics. Thread-safe.
 *
 * One line a counter: identifier, name in JSON (and, with `pillion_` before and `_total` behind it, in Prometheus), help. */
#ifndef PILLION_COUNTERS_H
#define PILLION_COUNTERS_H

#include <stdint.h>

/* clang-format off */
#define COUNTER_TABLE(X) \
    X(LOG_LINES_DROPPED,       "log_lines_dropped",       "Log lines that standard error did not take") \
    X(WORKERS_CONNECTED,       "workers_connected",       "Connections of workers that said a valid hello") \
    X(WORKERS_REFUSED_UID,     "workers_refused_uid",     "Connections to the workers' socket by another user") \
    X(WORKERS_REFUSED_HELLO,   "workers_refused_hello",   "Hellos that were refused") \
    X(WORKERS_LATER,           "workers_later",           "Workers told to come later for lack of room") \
    X(WORKERS_CLOSED_PROTOCOL, "workers_closed_protocol", "Connections closed because a frame was not valid") \
    X(WORKERS_CLOSED_STALLED,  "workers_closed_stalled",  "Connections closed in the middle of a frame that did not go on") \
    X(FRAMES_UNKNOWN,          "frames_unknown",          "Frames of a type that this version does not know") \
    X(SAMPLES_RECEIVED,        "samples_received",        "Samples taken from workers") \
    X(SAMPLES_REPEATED,        "samples_repeated",        "Samples that a worker sent again although they were kept") \
    X(SAMPLES_MISSING,         "samples_missing",         "Samples that a worker made and that never came: gaps in its numbers") \
    X(SAMPLES_DROPPED_WORKER,  "samples_dropped_worker",  "Samples that workers dropped for lack of room") \
    X(SAMPLES_DROPPED,         "samples_dropped",         "Samples that the helper had no memory for") \
    X(SAMPLES_ACKNOWLEDGED,    "samples_acknowledged",    "Samples acknowledged to workers") \
    X(VALUES_REFUSED,          "values_refused",          "Numbers in samples that cannot be: infinite, or a negative count") \
    X(SAMPLES_OUTSIDE,         "samples_outside",         "Records of silent workers made from what the kernel knows alone") \
    X(CONTAINER_UNREADABLE,    "container_unreadable",    "Readings of the control group that failed") \
    X(EVENTS,                  "events",                  "Events: connected, exited, blocked, free, memory") \
    X(EVENTS_DROPPED,          "events_dropped",          "Events that the helper had no memory for") \
    X(RECORDS,                 "records",                 "Records put into batches") \
    X(BATCHES,                 "batches",                 "Batches closed") \
    X(BATCHES_SENT,            "batches_sent",            "Batches taken by a sink, each sink counted") \
    X(BATCHES_FAILED,          "batches_failed",          "Attempts to hand a batch to a sink that failed") \
    X(BATCHES_DROPPED,         "batches_dropped",         "Batches dropped because no sink took them and there was no room left") \
    X(SPOOL_BYTES_WRITTEN,     "spool_bytes_written",     "Bytes written to the spool, records alone") \
    X(SPOOL_WRITES_FAILED,     "spool_writes_failed",     "Attempts to write to the spool that failed: disk full, read-only …") \
    X(SPOOL_SYNCS,             "spool_syncs",             "Times that the spool was made durable") \
    X(SPOOL_SYNCS_FAILED,      "spool_syncs_failed",      "Times that this failed and the data was written again") \
    X(SPOOL_SAMPLES_DROPPED,   "spool_samples_dropped",   "Samples that went with the oldest part of a full spool before every sink had them") \
    X(SPOOL_PACKED,            "spool_packed",            "Batches written packed, because a sink was behind") \
    X(SPOOL_DAMAGED,           "spool_damaged",           "Records of the spool that could not be read any more") \
    X(SPOOL_SET_ASIDE,         "spool_set_aside",         "Files of the spool that were set aside: foreign, damaged or of a newer version") \
    X(SPOOL_TAILS_CUT,         "spool_tails_cut",         "Half-written records at the end of a segment that were cut off after a kill") \
    X(SINK_FILES_REMOVED,      "sink_files_removed",      "Files of the file sink removed to stay within its cap") \
    X(REGISTRATIONS,           "registrations",           "Registrations that the registry took") \
    X(REGISTRY_PASSES,         "registry_passes",         "Signs of life that the registry took") \
    X(REGISTRY_FORGOTTEN,      "registry_forgotten",      "Times that the registry did not know this container any more") \
    X(REGISTRY_FAILED,         "registry_failed",         "Requests to the registry that failed or were refused") \
    X(DISCOVERY_QUERIES,       "discovery_queries",       "Times that the registry was asked for hubs") \
    X(DISCOVERY_FAILED,        "discovery_failed",        "Times that it did not say") \
    X(HUB_FAILOVERS,           "hub_failovers",           "Times that another hub was taken because one had failed") \
    X(REQUESTS_OUT,            "requests_out",            "Requests of sinks to remote ends") \
    X(REQUESTS_OUT_FAILED,     "requests_out_failed",     "Requests of sinks that were not answered or not taken") \
    X(BATCHES_SPLIT,           "batches_split",           "Times that a batch was too long for a remote end and was sent in parts") \
    X(RECORDS_PARKED,          "records_parked",          "Records that a remote end will never take, kept in the directory parked") \
    X(RECORDS_REPEATED,        "records_repeated",        "Records that a remote end had already") \
    X(POINTS_REJECTED,         "points_rejected",         "Points that a collector rejected in a request that it took") \
    X(PARKED_FILES_REMOVED,    "parked_files_removed",    "Files of the directory parked removed to stay within its cap") \
    X(HUB_COMMANDS,            "hub_commands",            "Commands that came back in answers of a hub") \
    X(HUB_COMMANDS_REFUSED,    "hub_commands_refused",    "Commands of a hub that are not valid, or too many, or that nobody here takes") \
    X(NOTIFY_SENT,             "notify_sent",             "Notifications that a target confirmed, each target counted") \
    X(NOTIFY_FAILED,           "notify_failed",           "Attempts to notify that were not confirmed") \
    X(NOTIFY_RETURNED,         "notify_returned",         "Times that a broker gave a notification back because no queue wanted it") \
    X(NOTIFY_REFUSED,          "notify_refused",          "Notifications that a target will never take") \
    X(NOTIFY_DROPPED,          "notify_dropped",          "Notifications dropped before every target had them, for lack of room") \
    X(NOTIFY_DAMAGED,          "notify_damaged",          "Notifications on disk that could not be read any more") \
    X(JOBS,                    "jobs",                    "Jobs taken, of commands and of rules") \
    X(JOBS_DONE,               "jobs_done",               "Jobs that ended well") \
    X(JOBS_FAILED,             "jobs_failed",             "Jobs that failed") \
    X(JOBS_CANCELLED,          "jobs_cancelled",          "Jobs that were cancelled") \
    X(COMMANDS_REFUSED,        "commands_refused",        "Commands that are not valid or mean nobody, or for which there was no room") \
    X(COMMANDS_UNAUTHORISED,   "commands_unauthorised",   "Requests to the command port without the right token or signature") \
    X(RULES_HELD_BACK,         "rules_held_back",         "Captures by rule left out because of the cool-down or the hourly limit") \
    X(PORT_REFUSED_BUSY,       "port_refused_busy",       "Connections to the command port beyond its cap") \
    X(ARTIFACTS_STORED,        "artifacts_stored",        "Artifacts that are whole at their final name, verified") \
    X(ARTIFACT_ATTEMPTS_FAILED, "artifact_attempts_failed", "Attempts to store an artifact that failed and are made again") \
    X(ARTIFACTS_PARKED,        "artifacts_parked",        "Artifacts that the store will never take, kept in the directory outgoing") \
    X(ARTIFACTS_DROPPED,       "artifacts_dropped",       "Artifacts dropped before they were stored: no room left (PILLION_KEEP), or gone") \
    X(ARTIFACT_FILES_REMOVED,  "artifact_files_removed",  "Local artifacts removed by size and age (PILLION_KEEP)") \
    X(STATUS_REQUESTS,         "status_requests",         "Requests to the status socket") \
    X(STATUS_REFUSED_UID,      "status_refused_uid",      "Connections to the status socket by another user") \
    X(STATUS_REFUSED_BUSY,     "status_refused_busy",     "Connections to the status socket beyond its cap") \
    X(STATUS_CUT,              "status_cut",              "Status connections cut because they were too slow") \
    X(SERIES_LEFT_OUT,         "series_left_out",         "Series left out of the Prometheus page because of its cap") \
    X(SOCKETS_MADE_AGAIN,      "sockets_made_again",      "Sockets or preload files that were gone and were made again") \
    X(OUT_OF_MEMORY,           "out_of_memory",           "Allocations that failed") \
    X(LOOP_LATE,               "loop_late",               "Turns of the loop that took longer than 10 ms")
/* clang-format on */

enum counter {
#define X(id, name, help) COUNTER_##id,
    COUNTER_TABLE(X)
#undef X
        COUNTER_COUNT
};

void counter_add(enum counter c, uint64_t n);
uint64_t counter_get(enum counter c);
const char *counter_name(enum counter c);
const char *counter_help(enum counter c);

#endif
