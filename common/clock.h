/* Time: monotonic for waiting, wall for records. Knows nobody. */
#ifndef QUERN_COMMON_CLOCK_H
#define QUERN_COMMON_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_tick_us(void); /* monotonic, as of the kernel's last tick, 1 to 10 ms ago: a fifth of the cost */
int64_t clock_wall_ms(void); /* since 1970 */

#endif
