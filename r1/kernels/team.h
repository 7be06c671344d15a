// Threads that go through phases of work together inside one parallel region: they meet between
// phases by looking at a counter, which takes a fraction of what ending a region and beginning
// the next one does.
#include <sched.h>

#define MAX_MEMBERS 256
// Looks at the counter, about 20 microseconds, before the core is left to others.
#define MAX_LOOKS 1000

typedef struct {
    _Alignas(64) int64_t num_taken;
} Share;

typedef struct {
    _Alignas(64) int64_t num_arrivals;
    _Alignas(64) int64_t num_meetings;
    Share shares[2][MAX_MEMBERS];
} Team;

typedef struct {
    Team *team;
    int64_t id, size, num_meetings;
    // Whose units are taken next, and how many members' are left.
    int64_t owner, num_left;
} Member;

// Before the region; returns the number of threads that it may have.
static int64_t form_team(Team *team, int64_t num_threads) {
    num_threads = num_threads < MAX_MEMBERS ? num_threads : MAX_MEMBERS;
    team->num_arrivals = team->num_meetings = 0;
    for (int64_t i = 0; i < num_threads; i++)
        team->shares[0][i].num_taken = team->shares[1][i].num_taken = 0;
    return num_threads;
}

INLINE Member join_team(Team *team) {
    int64_t id = omp_get_thread_num(), size = omp_get_num_threads();
    return (Member){team, id, size, 0, id, size};
}

// What each has written before is seen by all after it.
static void meet(Member *member) {
    Team *team = member->team;
    const int64_t round = ++member->num_meetings;
    member->owner = member->id;
    member->num_left = member->size;
    if (__atomic_add_fetch(&team->num_arrivals, 1, __ATOMIC_ACQ_REL) == round * member->size)
        __atomic_store_n(&team->num_meetings, round, __ATOMIC_RELEASE);
    for (int64_t looks = 0; __atomic_load_n(&team->num_meetings, __ATOMIC_ACQUIRE) < round; looks++) {
        if (looks >= MAX_LOOKS) sched_yield();
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#elif defined(__aarch64__)
        else __asm__ volatile("yield");
#endif
    }
    // Nobody takes from the last phase's shares any more: the next one's.
    __atomic_store_n(&team->shares[(round + 1) & 1][member->id].num_taken, 0, __ATOMIC_RELAXED);
}

// The first unit of a member's share.
INLINE int64_t share_begin(const Member *member, int64_t owner, int64_t num_units) {
    return num_units * owner / member->size;
}

// One of a phase's units, each for one member: those of its own share in order, then what others
// have left; -1 when there are no more.
INLINE int64_t next_unit(Member *member, int64_t num_units) {
    Share *shares = member->team->shares[member->num_meetings & 1];
    for (; member->num_left; member->num_left--) {
        const int64_t owner = member->owner;
        int64_t unit = __atomic_fetch_add(&shares[owner].num_taken, 1, __ATOMIC_RELAXED);
        unit += share_begin(member, owner, num_units);
        if (unit < share_begin(member, owner + 1, num_units)) return unit;
        member->owner = owner + 1 < member->size ? owner + 1 : 0;
    }
    return -1;
}

// The same where the order of all units counts.
INLINE int64_t next_in_turn(Member *member, int64_t num_units) {
    Share *first = member->team->shares[member->num_meetings & 1];
    int64_t unit = __atomic_fetch_add(&first->num_taken, 1, __ATOMIC_RELAXED);
    return unit < num_units ? unit : -1;
}
