/*
 * statuspage.c owns every access to the memory that supervisor and slot share, and its ordering.
 * It must not know attempts, sockets or what a result looks like.
 * Start reading at claim_start and claim_revoke.
 */
#include "worker/statuspage.h"

#include "common/clock.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert((SLOT_QUEUE_COUNT_MAX & (SLOT_QUEUE_COUNT_MAX - 1)) == 0, "a power of two");
_Static_assert((SLOT_RING_SIZE & (SLOT_RING_SIZE - 1)) == 0, "a power of two");

/* How long a slot sleeps for space before it looks again by itself. */
#define RING_WAIT_MS 100
/* The same for the answer to a wait. */
#define ANSWER_LOOK_MS 100

/* ---- the page ---- */

int statuspage_create(void)
{
    int fd = memfd_create("quern-slot", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)sizeof(struct statuspage)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

struct statuspage *statuspage_map(int fd)
{
    void *p = mmap(NULL, sizeof(struct statuspage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

void statuspage_unmap(struct statuspage **page)
{
    if (*page != NULL) {
        munmap(*page, sizeof(struct statuspage));
        *page = NULL;
    }
}

/* ---- birth ---- */

void statuspage_birth(struct statuspage *page, enum birth_word word)
{
    atomic_store_explicit(&page->birth, (uint32_t)word, memory_order_release);
}

enum birth_word birth_read(struct statuspage *page)
{
    return (enum birth_word)atomic_load_explicit(&page->birth, memory_order_acquire);
}

/* ---- claims ---- */

static uint64_t claim_word(uint64_t number, enum claim claim)
{
    return number << 2 | (uint64_t)claim;
}

static _Atomic uint64_t *claim_at(struct statuspage *page, uint64_t number)
{
    return &page->claims[number % SLOT_QUEUE_COUNT_MAX];
}

enum claim claim_read(struct statuspage *page, uint64_t number)
{
    uint64_t word = atomic_load_explicit(claim_at(page, number), memory_order_acquire);
    return word >> 2 == number ? (enum claim)(word & 3) : CLAIM_NONE;
}

void claim_hand(struct statuspage *page, uint64_t number)
{
    atomic_store_explicit(claim_at(page, number), claim_word(number, CLAIM_HANDED), memory_order_release);
}

static bool claim_turn(struct statuspage *page, uint64_t number, enum claim to)
{
    uint64_t expected = claim_word(number, CLAIM_HANDED);
    return atomic_compare_exchange_strong_explicit(claim_at(page, number), &expected, claim_word(number, to),
                                                   memory_order_acq_rel, memory_order_acquire);
}

bool claim_revoke(struct statuspage *page, uint64_t number)
{
    return claim_turn(page, number, CLAIM_REVOKED);
}

bool claim_start(struct statuspage *page, uint64_t number)
{
    return claim_turn(page, number, CLAIM_STARTED);
}

/* ---- what runs ---- */

void statuspage_run(struct statuspage *page, uint64_t number, int64_t mono_us, int64_t wall_ms)
{
    /* Release stores keep what was stored before them before them: a reader of the new times sees running changed. */
    atomic_store_explicit(&page->running, 0, memory_order_relaxed);
    atomic_store_explicit(&page->waited_us, 0, memory_order_relaxed);
    atomic_store_explicit(&page->started_us, mono_us, memory_order_release);
    atomic_store_explicit(&page->started_wall_ms, wall_ms, memory_order_release);
    atomic_store_explicit(&page->running, number, memory_order_release);
}

bool statuspage_started(struct statuspage *page, uint64_t number, int64_t *mono_us_out, int64_t *wall_ms_out)
{
    if (atomic_load_explicit(&page->running, memory_order_acquire) != number) {
        return false;
    }
    *mono_us_out = atomic_load_explicit(&page->started_us, memory_order_acquire);
    *wall_ms_out = atomic_load_explicit(&page->started_wall_ms, memory_order_acquire);
    return atomic_load_explicit(&page->running, memory_order_relaxed) == number;
}

void statuspage_stop(struct statuspage *page, uint64_t number)
{
    atomic_store_explicit(&page->stopping, number, memory_order_release);
}

bool statuspage_is_stopping(struct statuspage *page, uint64_t number)
{
    return atomic_load_explicit(&page->stopping, memory_order_acquire) == number;
}

/* ---- the place ---- */

enum place_word place_read(struct statuspage *page)
{
    uint32_t word = atomic_load_explicit(&page->place, memory_order_acquire);
    return word <= PLACE_REFUSED ? (enum place_word)word : PLACE_HELD;
}

void wait_answer(struct statuspage *page, bool is_given)
{
    uint32_t expected = PLACE_ASKED;
    if (atomic_compare_exchange_strong_explicit(&page->place, &expected, is_given ? PLACE_GIVEN : PLACE_REFUSED,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        syscall(SYS_futex, &page->place, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static uint64_t wait_us(struct statuspage *page, int64_t now_us)
{
    int64_t since_us = atomic_load_explicit(&page->wait_since_us, memory_order_relaxed);
    return since_us < now_us ? (uint64_t)(now_us - since_us) : 0;
}

uint64_t statuspage_waited_us(struct statuspage *page, int64_t now_us)
{
    bool is_waiting = place_read(page) != PLACE_HELD;
    return atomic_load_explicit(&page->waited_us, memory_order_relaxed) + (is_waiting ? wait_us(page, now_us) : 0);
}

void wait_begin(struct statuspage *page, int64_t now_us)
{
    atomic_store_explicit(&page->wait_since_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&page->place, PLACE_ASKED, memory_order_release);
}

bool wait_is_given(struct statuspage *page, int64_t deadline_ms)
{
    uint32_t word;
    while ((word = atomic_load_explicit(&page->place, memory_order_acquire)) == PLACE_ASKED) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        if (left_ms <= 0) {
            break;
        }
        left_ms = left_ms < ANSWER_LOOK_MS ? left_ms : ANSWER_LOOK_MS;
        struct timespec wait = {.tv_nsec = left_ms * 1000000};
        syscall(SYS_futex, &page->place, FUTEX_WAIT, PLACE_ASKED, &wait, NULL, 0);
    }
    return word != PLACE_REFUSED;
}

void wait_end(struct statuspage *page, int64_t now_us)
{
    uint64_t waited_us = atomic_load_explicit(&page->waited_us, memory_order_relaxed) + wait_us(page, now_us);
    atomic_store_explicit(&page->waited_us, waited_us, memory_order_relaxed);
    atomic_store_explicit(&page->place, PLACE_HELD, memory_order_release);
}

/* ---- the ring ---- */

bool ring_take(struct statuspage *page, uint64_t *read, struct buf *out)
{
    uint64_t written = atomic_load_explicit(&page->written, memory_order_acquire);
    uint64_t size = written - *read;
    if (size > SLOT_RING_SIZE) {
        return false;
    }
    if (size == 0) {
        return true;
    }
    size_t at = *read % SLOT_RING_SIZE;
    size_t first = SLOT_RING_SIZE - at < size ? SLOT_RING_SIZE - at : (size_t)size;
    buf_put(out, page->ring + at, first);
    buf_put(out, page->ring, (size_t)size - first);
    *read = written;
    atomic_store_explicit(&page->read, written, memory_order_seq_cst);
    atomic_fetch_add_explicit(&page->space, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&page->space_waiters, memory_order_seq_cst) != 0) {
        syscall(SYS_futex, &page->space, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    return true;
}

static size_t ring_free(struct statuspage *page, uint64_t written)
{
    return SLOT_RING_SIZE - (size_t)(written - atomic_load_explicit(&page->read, memory_order_acquire));
}

uint8_t *ring_room(struct statuspage *page, size_t size)
{
    uint64_t written = atomic_load_explicit(&page->written, memory_order_relaxed);
    size_t at = written % SLOT_RING_SIZE;
    return size <= SLOT_RING_SIZE - at && size <= ring_free(page, written) ? page->ring + at : NULL;
}

void ring_publish(struct statuspage *page, size_t size)
{
    uint64_t written = atomic_load_explicit(&page->written, memory_order_relaxed);
    atomic_store_explicit(&page->written, written + size, memory_order_release);
}

size_t ring_put(struct statuspage *page, struct bytes bytes)
{
    uint64_t written = atomic_load_explicit(&page->written, memory_order_relaxed);
    size_t room = ring_free(page, written);
    size_t size = bytes.n < room ? bytes.n : room;
    if (size == 0) {
        return 0;
    }
    size_t at = written % SLOT_RING_SIZE;
    size_t first = SLOT_RING_SIZE - at < size ? SLOT_RING_SIZE - at : size;
    memcpy(page->ring + at, bytes.p, first);
    memcpy(page->ring, bytes.p + first, size - first);
    ring_publish(page, size);
    return size;
}

void ring_wait(struct statuspage *page)
{
    atomic_store_explicit(&page->space_waiters, 1, memory_order_seq_cst);
    uint32_t space = atomic_load_explicit(&page->space, memory_order_seq_cst);
    uint64_t written = atomic_load_explicit(&page->written, memory_order_relaxed);
    if (written - atomic_load_explicit(&page->read, memory_order_seq_cst) == SLOT_RING_SIZE) {
        struct timespec wait = {.tv_nsec = RING_WAIT_MS * 1000000L};
        syscall(SYS_futex, &page->space, FUTEX_WAIT, space, &wait, NULL, 0);
    }
    atomic_store_explicit(&page->space_waiters, 0, memory_order_seq_cst);
}

/* ---- progress ---- */

void progress_write(struct statuspage *page, uint64_t number, double fraction, const char *text)
{
    struct progress_board *board = &page->progress;
    uint64_t words[PROGRESS_TEXT_SIZE_MAX / 8] = {0};
    size_t size = text == NULL ? 0 : strnlen(text, PROGRESS_TEXT_SIZE_MAX);
    memcpy(words, text == NULL ? "" : text, size);
    uint64_t bits;
    memcpy(&bits, &fraction, sizeof(bits));

    uint32_t version = atomic_load_explicit(&board->version, memory_order_relaxed);
    atomic_store_explicit(&board->version, version | 1, memory_order_relaxed);
    atomic_store_explicit(&board->number, number, memory_order_release);
    atomic_store_explicit(&board->fraction, bits, memory_order_release);
    atomic_store_explicit(&board->text_size, (uint32_t)size, memory_order_release);
    for (size_t i = 0; i * 8 < size; i++) {
        atomic_store_explicit(&board->text[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&board->version, (version | 1) + 1, memory_order_release);
}

bool progress_read(struct statuspage *page, uint64_t number, uint32_t *version, struct progress *progress_out)
{
    struct progress_board *board = &page->progress;
    uint64_t words[PROGRESS_TEXT_SIZE_MAX / 8];
    uint32_t before = atomic_load_explicit(&board->version, memory_order_acquire);
    if (before & 1 || before == *version || atomic_load_explicit(&board->number, memory_order_acquire) != number) {
        return false;
    }
    uint64_t bits = atomic_load_explicit(&board->fraction, memory_order_acquire);
    size_t size = atomic_load_explicit(&board->text_size, memory_order_acquire);
    for (size_t i = 0; i < PROGRESS_TEXT_SIZE_MAX / 8; i++) {
        words[i] = atomic_load_explicit(&board->text[i], memory_order_acquire);
    }
    if (atomic_load_explicit(&board->version, memory_order_relaxed) != before || size > PROGRESS_TEXT_SIZE_MAX) {
        return false;
    }
    *version = before;
    memcpy(&progress_out->fraction, &bits, sizeof(bits));
    progress_out->text_size = size;
    memcpy(progress_out->text, words, sizeof(words));
    return true;
}
