package dev.gantry.clients;

import java.time.Duration;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The gRPC simple consumer: one thread that receives, hands over and acknowledges. */
final class GrpcSimpleReceiver implements Receiver {
    /** Long poll of one receive call; the proxy refuses less (grpcClientConsumerMinLongPollingTimeoutMillis, 5 s). */
    private static final Duration AWAIT = Duration.ofSeconds(5);
    private static final Duration INVISIBLE = Duration.ofSeconds(30);
    private static final int BATCH = 32;

    private final SimpleConsumer consumer;
    private final Inbox inbox;
    private final Thread thread = new Thread(this::loop, "simple-receiver");
    private volatile boolean open = true;

    GrpcSimpleReceiver(Flags flags, Inbox inbox) throws Exception {
        this.inbox = inbox;
        consumer = ClientServiceProvider.loadService().newSimpleConsumerBuilder()
            .setClientConfiguration(GrpcSender.configuration(flags))
            .setConsumerGroup(flags.required("consumer-group"))
            .setAwaitDuration(AWAIT)
            .setSubscriptionExpressions(Map.of(flags.required("topic"), FilterExpression.SUB_ALL))
            .build();
        thread.start();
    }

    private void loop() {
        while (open) {
            try {
                for (MessageView view : consumer.receive(BATCH, INVISIBLE)) {
                    if (inbox.take(GrpcPush.delivery(view))) {
                        acknowledge(view);
                    }
                }
            } catch (Exception error) {
                if (open) {
                    inbox.failed("receive", error);
                    pause();
                }
            }
        }
    }

    private void acknowledge(MessageView view) {
        try {
            consumer.ack(view);
        } catch (Exception error) {
            inbox.failed("ack", error);
        }
    }

    /** A failing receive answers at once: do not turn that into a storm of calls and events. */
    private static void pause() {
        try {
            Thread.sleep(100);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }

    @Override
    public void close() throws Exception {
        open = false;
        thread.join(AWAIT.plusSeconds(2).toMillis());
        consumer.close();
    }
}
