// Prints what Java's clocks read: lines `CLOCK RESOLUTION_NS VALUE_NS`.
import java.time.Instant;

public class Clocks {
    public static void main(String[] arguments) {
        System.out.println("0 1000000 " + System.currentTimeMillis() + "000000");
        Instant now = Instant.now();
        System.out.printf("0 1000 %d%09d%n", now.getEpochSecond(), now.getNano());
        System.out.println("1 1 " + System.nanoTime());
    }
}
