/* As bare.c, a 32-bit program. Built with -m32 -nostdlib -static. */
typedef unsigned long word;

enum { AT_NULL = 0, AT_SYSINFO_EHDR = 33, PT_DYNAMIC = 2, DT_HASH = 4, DT_STRTAB = 5, DT_SYMTAB = 6 };

static long call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

__attribute__((naked, noreturn)) void _start(void)
{
    __asm__("mov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall begin\n\thlt");
}

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static word function(word base, const char *name)
{
    unsigned char *header = (unsigned char *)base, *program = header + *(word *)(header + 28);
    word *dynamic = 0;
    for (int left = *(unsigned short *)(header + 44); left; left--, program += 32)
        if (*(unsigned *)program == PT_DYNAMIC)
            dynamic = (word *)(base + *(word *)(program + 8));
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
        if (equal(strings + *(unsigned *)(symbols + 16 * i), name))
            return base + *(word *)(symbols + 16 * i + 4);
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
    int (*gettime)(int, long *) = base ? (int (*)(int, long *))function(base, "__vdso_clock_gettime") : 0;
    long now[2] = { 0, 0 };
    if (!gettime || gettime(0, now) != 0)
        call(252, 1, 0, 0);
    char text[40];
    int place = sizeof text;
    text[--place] = '\n';
    do
        text[--place] = '0' + now[0] % 10;
    while (now[0] /= 10);
    call(4, 1, (long)(text + place), sizeof text - place);
    call(252, 0, 0, 0);
    __builtin_unreachable();
}
