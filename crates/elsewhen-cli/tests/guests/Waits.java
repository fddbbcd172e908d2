// Waits, in every way that Java has; the conversation is that of waits.c.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.time.Instant;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

public class Waits {
    /** Waits for so many milliseconds. */
    interface Way {
        void await(long ms) throws Exception;
    }

    static void must(boolean condition, String what) {
        if (!condition) {
            throw new IllegalStateException(what);
        }
    }

    static long realtime() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }

    static void object(long ms) throws Exception {
        Object monitor = new Object();
        synchronized (monitor) {
            monitor.wait(ms);
        }
    }

    static void scheduled(long ms) throws Exception {
        ScheduledExecutorService executor = Executors.newScheduledThreadPool(1);
        executor.schedule(() -> {}, ms, TimeUnit.MILLISECONDS).get();
        executor.shutdown();
    }

    static void fixedRate(long ms) throws Exception {
        ScheduledExecutorService executor = Executors.newScheduledThreadPool(1);
        CountDownLatch latch = new CountDownLatch(4);
        executor.scheduleAtFixedRate(latch::countDown, ms / 4, ms / 4, TimeUnit.MILLISECONDS);
        latch.await();
        executor.shutdownNow();
    }

    static void orTimeout(long ms) throws Exception {
        try {
            new CompletableFuture<Void>().orTimeout(ms, TimeUnit.MILLISECONDS).get();
            must(false, "the future did not time out");
        } catch (ExecutionException error) {
            must(error.getCause() instanceof TimeoutException, "the future failed otherwise");
        }
    }

    static void futureGet(long ms) throws Exception {
        try {
            new CompletableFuture<Void>().get(ms, TimeUnit.MILLISECONDS);
            must(false, "the future did not time out");
        } catch (TimeoutException expected) {
        }
    }

    static void awaitUntil(long ms) throws Exception {
        ReentrantLock lock = new ReentrantLock();
        Condition condition = lock.newCondition();
        lock.lock();
        // A millisecond more, since the date does not show what is below one.
        must(!condition.awaitUntil(new Date(System.currentTimeMillis() + ms + 1)), "signalled");
        lock.unlock();
    }

    static void timer(long ms) throws Exception {
        Timer timer = new Timer();
        CountDownLatch latch = new CountDownLatch(1);
        timer.schedule(
            new TimerTask() {
                @Override
                public void run() {
                    latch.countDown();
                }
            },
            new Date(System.currentTimeMillis() + ms + 1));
        latch.await();
        timer.cancel();
    }

    static void socket(long ms) throws Exception {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
            Socket client = new Socket(server.getInetAddress(), server.getLocalPort())) {
            client.setSoTimeout((int) ms);
            client.getInputStream().read();
            must(false, "something was received");
        } catch (SocketTimeoutException expected) {
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Way> ways = new LinkedHashMap<>();
        ways.put("Thread.sleep", Thread::sleep);
        ways.put("Object.wait", Waits::object);
        ways.put("parkNanos", ms -> LockSupport.parkNanos(ms * 1_000_000));
        ways.put("parkUntil:r", ms -> LockSupport.parkUntil(System.currentTimeMillis() + ms + 1));
        ways.put("schedule", Waits::scheduled);
        ways.put("scheduleAtFixedRate", Waits::fixedRate);
        ways.put("orTimeout", Waits::orTimeout);
        ways.put("CompletableFuture.get", Waits::futureGet);
        ways.put("tryAcquire", ms -> must(!new Semaphore(0).tryAcquire(ms, TimeUnit.MILLISECONDS), "acquired"));
        ways.put("BlockingQueue.poll", ms ->
            must(new LinkedBlockingQueue<>().poll(ms, TimeUnit.MILLISECONDS) == null, "polled"));
        ways.put("awaitUntil:r", Waits::awaitUntil);
        ways.put("Timer:r", Waits::timer);
        ways.put("setSoTimeout", Waits::socket);
        System.out.println("ways " + String.join(" ", ways.keySet()));
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            String[] words = line.split(" ");
            long ns = Long.parseLong(words[1]);
            Way way = ways.getOrDefault(words[0], ways.get(words[0] + ":r"));
            long monotonic = System.nanoTime(), realtime = realtime();
            way.await(ns / 1_000_000);
            realtime = realtime() - realtime;
            monotonic = System.nanoTime() - monotonic;
            System.out.println(ns + " " + monotonic + " " + realtime);
        }
    }
}
