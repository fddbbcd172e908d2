/* Prints the realtime clock's seconds without a C library and without thread-local storage: finds the vDSO by the
 * auxiliary vector and its functions by the symbol hash table. Built with -nostdlib -static. */
typedef unsigned long word;

enum { AT_NULL = 0, AT_SYSINFO_EHDR = 33, PT_DYNAMIC = 2, DT_HASH = 4, DT_STRTAB = 5, DT_SYMTAB = 6 };

#ifdef __aarch64__
enum { SYS_write = 64, SYS_exit_group = 94 };
#define GETTIME "__kernel_clock_gettime"

static long call(long number, long a, long b, long c)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}

__asm__(".global _start\n_start:\n\tmov x0, sp\n\tbl begin\n\tbrk 1");
#else
enum { SYS_write = 1, SYS_exit_group = 231 };
#define GETTIME "__vdso_clock_gettime"

static long call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

__attribute__((naked, noreturn)) void _start(void)
{
    __asm__("mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt");
}
#endif

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static word function(word base, const char *name)
{
    unsigned char *header = (unsigned char *)base, *program = header + *(word *)(header + 32);
    word *dynamic = 0;
    for (int left = *(unsigned short *)(header + 56); left; left--, program += 56)
        if (*(unsigned *)program == PT_DYNAMIC)
            dynamic = (word *)(base + *(word *)(program + 16));
    char *strings = 0;
    unsigned char *symbols = 0;
    unsigned *hash = 0;
    for (; dynamic[0]; dynamic += 2) {
        if (dynamic[0] == DT_HASH)
            hash = (unsigned *)(base + dynamic[1]);
        if (dynamic[0] == DT_STRTAB)
            strings = (char *)(base + dynamic[1]);
        if (dynamic[0] == DT_SYMTAB)
            symbols = (unsigned char *)(base + dynamic[1]);
    }
    for (unsigned i = 0; hash && i < hash[1]; i++)
        if (equal(strings + *(unsigned *)(symbols + 24 * i), name))
            return base + *(word *)(symbols + 24 * i + 8);
    return 0;
}

__attribute__((used, noreturn)) void begin(word *stack)
{
    word count = stack[0], *environment = stack + 1 + count + 1, base = 0;
    while (*environment)
        environment++;
    for (word *entry = environment + 1; entry[0] != AT_NULL; entry += 2)
        if (entry[0] == AT_SYSINFO_EHDR)
            base = entry[1];
    int (*gettime)(int, long *) = base ? (int (*)(int, long *))function(base, GETTIME) : 0;
    long now[2] = { 0, 0 };
    if (!gettime || gettime(0, now) != 0)
        call(SYS_exit_group, 1, 0, 0);
    char text[40];
    int place = sizeof text;
    text[--place] = '\n';
    do
        text[--place] = '0' + now[0] % 10;
    while (now[0] /= 10);
    call(SYS_write, 1, (long)(text + place), sizeof text - place);
    call(SYS_exit_group, 0, 0, 0);
    __builtin_unreachable();
}
