package dev.gantry.guard;

import com.github.benmanes.caffeine.cache.LoadingCache;
import com.github.benmanes.caffeine.cache.Policy;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/**
 * Routes as they are now for who was away for a while: a sender that waited for a master which is gone would otherwise be sent to it once more, because a
 * cache that refreshes itself in the background answers with what it has. Goes into the image beside the changed classes.
 */
public final class Fresh {
    /** In milliseconds: so long somebody waits for name servers where there is an older answer. They take a millisecond or two. */
    private static final int PATIENCE = 100;
    private static final int LOOKS = 20;
    private static final Set<Object> ASKED_FOR = ConcurrentHashMap.newKeySet();

    private Fresh() { }

    /**
     * Has a value that is so old that the cache would refresh it read anew, and waits for that a moment. One caller per key does; others, and who has
     * waited in vain, take what there is.
     *
     * @param <V> the values
     * @param cache has a time after which it refreshes values
     * @param key of the value
     * @throws InterruptedException where the thread is told to end
     */
    public static <V> void look(LoadingCache<String, V> cache, String key) throws InterruptedException {
        Policy.Expiration<String, V> refresh = cache.policy().refreshAfterWrite().orElse(null);
        if (refresh == null || !isOld(cache, refresh, key) || !ASKED_FOR.add(key)) {
            return;
        }
        try {
            cache.refresh(key);
            for (int look = 0; look < LOOKS && isOld(cache, refresh, key); look++) {
                Thread.sleep(PATIENCE / LOOKS);
            }
        } finally {
            ASKED_FOR.remove(key);
        }
    }

    /** The policy tells no age beyond its time. What is not there yet is waited for as it is. */
    private static <V> boolean isOld(LoadingCache<String, V> cache, Policy.Expiration<String, V> refresh, String key) {
        return refresh.ageOf(key, TimeUnit.MILLISECONDS).isEmpty() && cache.asMap().containsKey(key);
    }
}
