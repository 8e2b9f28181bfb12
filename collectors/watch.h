/* watch.h - when a state is worth an event: a loop that does not turn, memory that comes near its limit. No state of its own,
 * no clock: the caller gives both. */
#ifndef PILLION_WATCH_H
#define PILLION_WATCH_H

#include <stdbool.h>
#include <stdint.h>

/* A worker promised a frame each period_ms; it was last heard at heard_ms. All it proves is that the loop last turned up to a
 * period later, so that is what counts: what is called blocked has been blocked for at least after_ms. */
bool watch_blocked(uint64_t now_ms, uint64_t heard_ms, uint64_t period_ms, uint64_t after_ms);

enum watch_change { WATCH_SAME, WATCH_RAISED, WATCH_CLEARED };

/* `on`: whether the alarm stands; it is set when used / limit reaches `share`, and taken back 5 points below, so that a value
 * that swings around the line gives one event. An unknown (NaN) value or limit changes nothing. */
enum watch_change watch_limit(bool *on, double used, double limit, double share);

#endif
