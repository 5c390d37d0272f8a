//! A container's use of the machine as clients compute from it.

use std::collections::BTreeMap;

use containers::{Cpu, Record, Sample};
use model::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::version::ApiVersion;

/// One record; without a sample that of a container which does not run. `before` is the sample that clients
/// compare with.
pub fn stats(
    record: &Record,
    sample: Option<&Sample>,
    before: Option<&Sample>,
    version: ApiVersion,
) -> Value {
    let time =
        |sample: Option<&Sample>| sample.map_or_else(Timestamp::default, |sample| sample.read).rfc3339();
    let mut all = json!({
        "id": record.id, "name": format!("/{}", record.name),
        "read": time(sample), "preread": time(before), "num_procs": 0, "storage_stats": {},
        "cpu_stats": cpu(sample), "precpu_stats": cpu(before),
        "memory_stats": sample.map_or_else(|| json!({}), memory),
        "pids_stats": sample.map_or_else(|| json!({}), pids),
        "blkio_stats": disks(sample),
    });
    if version >= ApiVersion(1, 52) {
        all["os_type"] = json!("linux");
    }
    let interfaces = sample.and_then(|sample| sample.interfaces.as_ref()).filter(|all| !all.is_empty());
    if let Some(interfaces) = interfaces {
        let counters: BTreeMap<&str, Value> = interfaces
            .iter()
            .map(|interface| {
                let ([rb, rp, re, rd], [tb, tp, te, td]) = (interface.received, interface.sent);
                let value = json!({
                    "rx_bytes": rb, "rx_packets": rp, "rx_errors": re, "rx_dropped": rd,
                    "tx_bytes": tb, "tx_packets": tp, "tx_errors": te, "tx_dropped": td,
                });
                (interface.name.as_str(), value)
            })
            .collect();
        all["networks"] = json!(counters);
    }
    all
}

fn cpu(sample: Option<&Sample>) -> Value {
    let used = sample.map_or_else(Cpu::default, |sample| sample.cpu);
    let (periods, throttled, waited) = used.throttling;
    let mut value = json!({
        "cpu_usage": {
            "total_usage": used.used, "usage_in_kernelmode": used.system, "usage_in_usermode": used.user,
        },
        "throttling_data": {
            "periods": periods, "throttled_periods": throttled, "throttled_time": waited,
        },
    });
    if let Some(sample) = sample {
        value["system_cpu_usage"] = json!(sample.machine.processor_time);
        value["online_cpus"] = json!(sample.machine.processors);
    }
    value
}

fn memory(sample: &Sample) -> Value {
    let Some(memory) = &sample.memory else { return json!({}) };
    let mut value = json!({ "usage": memory.usage, "limit": memory.limit, "stats": memory.details });
    if memory.failures > 0 {
        value["failcnt"] = json!(memory.failures);
    }
    value
}

fn pids(sample: &Sample) -> Value {
    match sample.pids {
        Some((current, limit)) => json!({ "current": current, "limit": limit }),
        None => json!({}),
    }
}

fn disks(sample: Option<&Sample>) -> Value {
    let bytes: Vec<Value> = sample
        .map_or(&[][..], |sample| &sample.io)
        .iter()
        .flat_map(|disk| {
            let (major, minor) = disk.device;
            [("read", disk.read), ("write", disk.written)]
                .map(|(op, value)| json!({ "major": major, "minor": minor, "op": op, "value": value }))
        })
        .collect();
    let bytes = if bytes.is_empty() { Value::Null } else { json!(bytes) };
    json!({
        "io_service_bytes_recursive": bytes, "io_serviced_recursive": null, "io_queue_recursive": null,
        "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
        "io_time_recursive": null, "sectors_recursive": null,
    })
}
