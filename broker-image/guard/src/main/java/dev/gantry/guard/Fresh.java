package dev.gantry.guard;

import com.github.benmanes.caffeine.cache.LoadingCache;
import com.github.benmanes.caffeine.cache.Policy;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;

/**
 * Routes as they are now for who was away for a while: a sender that waited for a master which is gone would otherwise be sent to it once more, because a
 * cache that refreshes itself in the background answers with what it has. Goes into the image beside the changed classes.
 */
public final class Fresh {
    /** In milliseconds: so long somebody waits for name servers where there is an older answer. They take a millisecond or two. */
    private static final int PATIENCE = 100;
    private static final int LOOKS = 20;

    private Fresh() { }

    /**
     * Has a value that is so old that the cache refreshes it read anew, and waits for that a moment. Who comes while that is under way, and who has waited in
     * vain, takes what there is.
     *
     * @param <V> the values
     * @param cache has a time after which it refreshes values
     * @param key of the value
     * @throws InterruptedException where the thread is told to end
     */
    public static <V> void look(LoadingCache<String, V> cache, String key) throws InterruptedException {
        Policy.Expiration<String, V> refresh = cache.policy().refreshAfterWrite().orElse(null);
        // The policy tells no age beyond its time. What is not there yet is waited for as it is.
        if (refresh == null || refresh.ageOf(key, TimeUnit.MILLISECONDS).isPresent() || !cache.asMap().containsKey(key)) {
            return;
        }
        // By the cache's own way, which reads it once at a time: a refresh beside that one would make the cache throw both answers away.
        cache.get(key);
        for (int look = 0; look < LOOKS && isUnderWay(refresh, key); look++) {
            Thread.sleep(PATIENCE / LOOKS);
        }
    }

    /** A value that is being read anew has a time in the future until it is there. */
    private static <V> boolean isUnderWay(Policy.Expiration<String, V> refresh, String key) {
        OptionalLong age = refresh.ageOf(key, TimeUnit.MILLISECONDS);
        return age.isPresent() && age.getAsLong() < 0;
    }
}
