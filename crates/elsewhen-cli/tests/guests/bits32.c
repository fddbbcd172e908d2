/* A 32-bit program without a C library; says that it ran. */
__attribute__((naked, noreturn)) void _start(void)
{
    __asm__("mov $4, %eax\n\tmov $1, %ebx\n\tmov $text, %ecx\n\tmov $4, %edx\n\tint $0x80\n\t"
            "mov $1, %eax\n\txor %ebx, %ebx\n\tint $0x80\n\t"
            ".pushsection .data\n\ttext: .ascii \"ran\\n\"\n\t.popsection");
}
