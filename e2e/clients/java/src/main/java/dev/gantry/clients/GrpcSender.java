package dev.gantry.clients;

import java.time.Duration;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.ProducerBuilder;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

final class GrpcSender implements Sender {
    private final ClientServiceProvider provider = ClientServiceProvider.loadService();
    private final Producer producer;
    private final String topic;
    private final String type;
    private final long delayMillis;

    GrpcSender(Flags flags, String type, Checker checker) throws Exception {
        this.type = type;
        topic = flags.required("topic");
        delayMillis = flags.number("delay-ms", 0);
        ProducerBuilder builder = provider.newProducerBuilder()
            .setClientConfiguration(configuration(flags))
            .setTopics(topic)
            .setMaxAttempts((int) flags.number("client-attempts", 3));
        if (type.equals("transaction")) {
            builder.setTransactionChecker(view -> resolution(checker.apply(bytes(view.getBody()))));
        }
        producer = builder.build();
    }

    static ClientConfiguration configuration(Flags flags) {
        return ClientConfiguration.newBuilder()
            .setEndpoints(flags.required("endpoint"))
            .enableSsl(flags.isSet("tls"))
            .setRequestTimeout(Duration.ofMillis(flags.number("timeout-ms", 3000)))
            .build();
    }

    static byte[] bytes(java.nio.ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static TransactionResolution resolution(Boolean answer) {
        if (answer == null) {
            return TransactionResolution.UNKNOWN;
        }
        return answer ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
    }

    @Override
    public String send(byte[] body, String group, String key, Fate fate) throws Exception {
        MessageBuilder builder = provider.newMessageBuilder().setTopic(topic).setBody(body).setKeys(key);
        if (type.equals("fifo") || type.equals("ordered")) {
            builder.setMessageGroup(group);
        } else if (type.equals("delay")) {
            builder.setDeliveryTimestamp(System.currentTimeMillis() + delayMillis);
        } else if (type.equals("priority")) {
            builder.setPriority(Integer.parseInt(group.substring(1)));
        } else if (type.equals("lite")) {
            builder.setLiteTopic(group);
        }
        Message message = builder.build();
        if (!type.equals("transaction")) {
            return producer.send(message).getMessageId().toString();
        }
        Transaction transaction = producer.beginTransaction();
        String id = producer.send(message, transaction).getMessageId().toString();
        if (fate == Fate.COMMIT) {
            transaction.commit();
        } else if (fate == Fate.ROLL_BACK) {
            transaction.rollback();
        }
        return id;
    }

    @Override
    public void close() throws Exception {
        producer.close();
    }
}
