package dev.gantry.clients;

import java.util.Map;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The gRPC push consumers. Whether it delivers in order is the consumer group's setting on the broker, not the client's. */
final class GrpcPush {
    private GrpcPush() { }

    static Receiver open(Flags flags, Receiver.Inbox inbox) throws Exception {
        PushConsumer consumer = ClientServiceProvider.loadService().newPushConsumerBuilder()
            .setClientConfiguration(GrpcSender.configuration(flags))
            .setConsumerGroup(flags.required("consumer-group"))
            .setSubscriptionExpressions(Map.of(flags.required("topic"), FilterExpression.SUB_ALL))
            .setMessageListener(view -> answer(inbox, view))
            .build();
        return consumer::close;
    }

    /** Receives the lite topics {@code --lite-topics a,b} of a topic, and no others. */
    static Receiver openLite(Flags flags, Receiver.Inbox inbox) throws Exception {
        LitePushConsumer consumer = ClientServiceProvider.loadService().newLitePushConsumerBuilder()
            .setClientConfiguration(GrpcSender.configuration(flags))
            .setConsumerGroup(flags.required("consumer-group"))
            .bindTopic(flags.required("topic"))
            .setMessageListener(view -> answer(inbox, view))
            .build();
        for (String topic : flags.required("lite-topics").split(",")) {
            consumer.subscribeLite(topic);
        }
        return consumer::close;
    }

    private static ConsumeResult answer(Receiver.Inbox inbox, MessageView view) {
        return inbox.take(delivery(view)) ? ConsumeResult.SUCCESS : ConsumeResult.FAILURE;
    }

    static Receiver.Delivery delivery(MessageView view) {
        return new Receiver.Delivery(view.getMessageId().toString(), GrpcSender.bytes(view.getBody()),
            view.getDeliveryAttempt(), view.getBornTimestamp());
    }
}
