# Prints what Python's clocks read: lines `CLOCK RESOLUTION_NS VALUE_NS`.
import time

print(0, 1, time.time_ns())
print(1, 1, time.monotonic_ns())
print(7, 1, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
print(11, 1, time.clock_gettime_ns(11))
