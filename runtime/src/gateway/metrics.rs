//! `/metrics`: the counters of every stage, read when asked for, in the OpenMetrics text form.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::switchboard::Switchboard;
use crate::agent::TurnCounters;
use crate::bus::Bus;
use crate::channel::{Channel, Status};
use crate::delivery::DeliveryCounters;
use crate::store::EventStore;

/// What is read at each scrape.
pub(super) struct Sources {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) store: Arc<dyn EventStore>,
    pub(super) deliveries: Arc<DeliveryCounters>,
    pub(super) turns: Arc<TurnCounters>,
    pub(super) bus: Bus,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

/// Returns what prints all figures.
pub(super) fn printer(sources: Sources) -> Arc<dyn Fn() -> String + Send + Sync> {
    let mut registry = Registry::with_prefix("sluicegate");
    registry.register_collector(Box::new(sources));
    Arc::new(move || {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    })
}

/// One figure of the whole gateway.
struct Figure(&'static str, &'static str, u64);

/// One figure of each channel.
struct ChannelFigure(&'static str, &'static str, fn(&Channel) -> u64);

const CHANNEL_COUNTERS: [ChannelFigure; 17] = [
    ChannelFigure("channel_calls", "Calls of the component's exports", |channel| {
        channel.services().usage.calls.get()
    }),
    ChannelFigure("channel_traps", "Calls that ended in a trap", |channel| {
        channel.services().usage.traps.get()
    }),
    ChannelFigure("channel_deadlines", "Calls stopped at their deadline", |channel| {
        channel.services().usage.deadlines.get()
    }),
    ChannelFigure(
        "channel_cpu_milliseconds",
        "CPU time of the guests, milliseconds",
        |channel| channel.services().usage.cpu().as_millis() as u64,
    ),
    ChannelFigure("channel_listener_restarts", "Restarts of the listener", |channel| {
        channel.services().usage.restarts.get()
    }),
    ChannelFigure("channel_inbound_accepted", "Inbound events stored", |channel| {
        channel.services().usage.inbound_accepted.get()
    }),
    ChannelFigure("channel_inbound_duplicates", "Inbound events known before", |channel| {
        channel.services().usage.inbound_duplicates.get()
    }),
    ChannelFigure(
        "channel_inbound_refused",
        "Inbound events of senders without access",
        |channel| channel.services().usage.inbound_refused.get(),
    ),
    ChannelFigure(
        "channel_inbound_over_cap",
        "Inbound events refused because as much waited in their conversation as may",
        |channel| channel.services().usage.inbound_over_cap.get(),
    ),
    ChannelFigure(
        "channel_inbound_held",
        "Publications and webhooks told to come again because the channel had its share of the inbox or its messages of the minute",
        |channel| channel.services().usage.inbound_held.get(),
    ),
    ChannelFigure(
        "channel_webhooks_refused",
        "Webhooks refused because their signature was missing, wrong or too old",
        |channel| channel.services().usage.webhooks_refused.get(),
    ),
    ChannelFigure(
        "channel_gaps",
        "Times without a listener in which messages may have been missed",
        |channel| channel.services().usage.gaps.get(),
    ),
    ChannelFigure(
        "channel_log_lines_dropped",
        "Log lines over the channel's rate",
        |channel| channel.services().usage.log_lines_dropped.get(),
    ),
    ChannelFigure("channel_egress_sockets", "Sockets that were asked for", |channel| {
        channel.services().egress.counters().sockets
    }),
    ChannelFigure("channel_egress_bytes_out", "Bytes that went out", |channel| {
        channel.services().egress.counters().bytes_out
    }),
    ChannelFigure("channel_egress_bytes_in", "Bytes that came in", |channel| {
        channel.services().egress.counters().bytes_in
    }),
    ChannelFigure(
        "channel_egress_requests",
        "Outgoing requests, refused ones too",
        |channel| channel.services().egress.counters().requests,
    ),
];

const CHANNEL_GAUGES: [ChannelFigure; 3] = [
    ChannelFigure("channel_up", "Whether the channel works", |channel| {
        u64::from(channel.status() == Status::Up)
    }),
    ChannelFigure(
        "channel_memory_bytes_high",
        "The most memory that one instance had",
        |channel| channel.services().usage.memory_bytes_high.get(),
    ),
    ChannelFigure("channel_clients", "Clients connected", |channel| {
        channel.services().clients.len() as u64
    }),
];

impl Sources {
    fn counters(&self) -> [Figure; 12] {
        let (delivery, turns) = (&self.deliveries, &self.turns);
        [
            Figure("delivery_attempts", "Attempts that began", delivery.attempts()),
            Figure(
                "delivery_delivered",
                "Messages that the platforms confirmed",
                delivery.delivered(),
            ),
            Figure("delivery_failed", "Attempts that failed for certain", delivery.failed()),
            Figure(
                "delivery_ambiguous",
                "Attempts without a known outcome",
                delivery.ambiguous(),
            ),
            Figure(
                "delivery_not_tried",
                "Attempts that did not count",
                delivery.not_tried(),
            ),
            Figure(
                "delivery_asked_about",
                "Messages that a component was asked about before they were sent again",
                delivery.reconciled(),
            ),
            Figure("delivery_dead", "Messages that the worker gave up", delivery.dead()),
            Figure("turns_committed", "Turns that were answered", turns.answered()),
            Figure("turns_failed", "Runs of the agent that failed", turns.failed()),
            Figure("turns_dead", "Turns that were given up", turns.dead()),
            Figure(
                "webhooks_turned_away",
                "Webhooks told to come again because a mark was reached",
                self.switchboard.turned_away(),
            ),
            Figure(
                "bus_events_lost",
                "Events that slow subscribers lost",
                self.bus.events_lost(),
            ),
        ]
    }

    fn gauges(&self) -> [Figure; 9] {
        let (depth, usage, pressure) = (self.store.depth(), self.store.usage(), self.store.pressure());
        [
            Figure("inbox_waiting", "Inbound events whose turn is not done", depth.inbox),
            Figure(
                "outbox_waiting",
                "Outbound events neither delivered nor dead",
                depth.outbox,
            ),
            Figure("dead_letters", "Dead letters", depth.dead),
            Figure(
                "dead_inbound",
                "Inbound events whose turn was given up",
                depth.dead_inbound,
            ),
            Figure("store_bytes", "Bytes of the store, blobs included", usage.store_bytes),
            Figure(
                "disk_free_bytes",
                "Bytes that are free on the store's disk",
                usage.disk_free_bytes,
            ),
            Figure(
                "intake_open",
                "Whether messages are taken in",
                u64::from(pressure.intake.is_none()),
            ),
            Figure(
                "turns_open",
                "Whether turns are begun",
                u64::from(pressure.turns.is_none()),
            ),
            Figure(
                "store_sound",
                "Whether the store takes writes",
                u64::from(self.store.is_sound()),
            ),
        ]
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for Figure(name, help, value) in self.counters() {
            one(&mut encoder, name, help, &ConstCounter::new(value))?;
        }
        for Figure(name, help, value) in self.gauges() {
            one(&mut encoder, name, help, &ConstGauge::new(as_gauge(value)))?;
        }
        let channels = self.switchboard.channels();
        for ChannelFigure(name, help, read) in CHANNEL_COUNTERS {
            family(&mut encoder, name, help, &channels, |channel| {
                ConstCounter::new(read(channel))
            })?;
        }
        for ChannelFigure(name, help, read) in CHANNEL_GAUGES {
            family(&mut encoder, name, help, &channels, |channel| {
                ConstGauge::new(as_gauge(read(channel)))
            })?;
        }
        encode_denials(&mut encoder, &channels)?;
        self.encode_reviews(&mut encoder, &channels)
    }
}

impl Sources {
    /// Writes which channels wait for a review, those that do not run before it too.
    fn encode_reviews(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        channels: &[Arc<Channel>],
    ) -> Result<(), std::fmt::Error> {
        let reviews = self.switchboard.reviews();
        let mut waiting: BTreeMap<&str, bool> =
            channels.iter().map(|it| (it.services().name.as_str(), false)).collect();
        waiting.extend(reviews.keys().map(|name| (name.as_str(), true)));
        let help = "Whether a changed component waits for the operator's review";
        let mut rows = encoder.encode_descriptor(
            "channel_waiting_for_review",
            help,
            None,
            ConstGauge::new(0_i64).metric_type(),
        )?;
        for (channel, waits) in waiting {
            ConstGauge::new(i64::from(waits)).encode(rows.encode_family(&[("channel", channel)])?)?;
        }
        Ok(())
    }
}

/// Writes how often each channel was denied something, by reason.
fn encode_denials(encoder: &mut DescriptorEncoder<'_>, channels: &[Arc<Channel>]) -> Result<(), std::fmt::Error> {
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut rows = encoder.encode_descriptor("channel_denials", "What was denied, by reason", None, kind)?;
    for channel in channels {
        let services = channel.services();
        for (reason, count) in services.egress.counters().denials.named() {
            let labels = [("channel", services.name.as_str()), ("reason", reason)];
            ConstCounter::new(count).encode(rows.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    channels: &[Arc<Channel>],
    metric: impl Fn(&Channel) -> M,
) -> Result<(), std::fmt::Error> {
    let Some(first) = channels.first() else { return Ok(()) };
    let mut rows = encoder.encode_descriptor(name, help, None, metric(first).metric_type())?;
    for channel in channels {
        let labels = [("channel", channel.services().name.as_str())];
        metric(channel).encode(rows.encode_family(&labels)?)?;
    }
    Ok(())
}
