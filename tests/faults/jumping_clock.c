/* Loaded in front of the C library: a time of day that jumps, an hour ahead and two hours back,
 * every time that somebody looks at it. All other clocks are what they are. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static unsigned looks;
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += looks++ % 2 ? 3600 : -3600;
    return result;
}
