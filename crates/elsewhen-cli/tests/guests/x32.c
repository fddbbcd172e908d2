/* An x32 program without a C library; says that it ran. */
__attribute__((naked, noreturn)) void _start(void)
{
    __asm__("mov $0x40000001, %eax\n\tmov $1, %edi\n\tmov $text, %esi\n\tmov $4, %edx\n\tsyscall\n\t"
            "mov $0x4000003c, %eax\n\txor %edi, %edi\n\tsyscall\n\t"
            ".pushsection .data\n\ttext: .ascii \"ran\\n\"\n\t.popsection");
}
