//! Docker's `Resources`: part of `HostConfig`, and the body of `POST /containers/{id}/update`.

use containers::{DeviceList, DeviceRate, Resources};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::host::invalid;
use crate::fold;
use crate::reply::ApiError;
use crate::version::ApiVersion;

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Wire {
    memory: i64,
    memory_swap: i64,
    memory_reservation: i64,
    memory_swappiness: Option<i64>,
    oom_kill_disable: Option<bool>,
    nano_cpus: i64,
    cpu_shares: i64,
    cpu_period: i64,
    cpu_quota: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    pids_limit: Option<i64>,
    blkio_weight: u16,
    blkio_weight_device: Vec<Weight>,
    blkio_device_read_bps: Vec<Rate>,
    blkio_device_write_bps: Vec<Rate>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<Rate>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<Rate>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Weight {
    path: String,
    weight: u16,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Rate {
    path: String,
    rate: u64,
}

/// Reads the limits among `fields`.
///
/// # Errors
/// 400 where a value has another type.
pub fn read(fields: &Map<String, Value>) -> Result<Resources, ApiError> {
    let wire: Wire = fold::from_value(Value::Object(fields.clone())).map_err(invalid)?;
    let rates = |list: Vec<Rate>| {
        list.into_iter().map(|Rate { path, rate }| DeviceRate { path, rate }).collect::<Vec<_>>()
    };
    let weights = wire.blkio_weight_device.into_iter();
    Ok(Resources {
        memory: wire.memory,
        memory_swap: wire.memory_swap,
        memory_reservation: wire.memory_reservation,
        // The command line's words for "not given".
        memory_swappiness: wire.memory_swappiness.filter(|value| *value != -1),
        oom_kill_disable: wire.oom_kill_disable.filter(|disable| *disable),
        nano_cpus: wire.nano_cpus,
        cpu_shares: wire.cpu_shares,
        cpu_period: wire.cpu_period,
        cpu_quota: wire.cpu_quota,
        cpuset_cpus: wire.cpuset_cpus,
        cpuset_mems: wire.cpuset_mems,
        pids_limit: wire.pids_limit,
        blkio_weight: wire.blkio_weight,
        blkio_weight_device: weights.map(|w| DeviceRate { path: w.path, rate: w.weight.into() }).collect(),
        blkio_read_bps: rates(wire.blkio_device_read_bps),
        blkio_write_bps: rates(wire.blkio_device_write_bps),
        blkio_read_iops: rates(wire.blkio_device_read_iops),
        blkio_write_iops: rates(wire.blkio_device_write_iops),
    })
}

/// Lists of block devices in an update, by name.
const LISTS: [(&str, DeviceList); 5] = [
    ("BlkioWeightDevice", DeviceList::Weight),
    ("BlkioDeviceReadBps", DeviceList::ReadBps),
    ("BlkioDeviceWriteBps", DeviceList::WriteBps),
    ("BlkioDeviceReadIOps", DeviceList::ReadIops),
    ("BlkioDeviceWriteIOps", DeviceList::WriteIops),
];

/// The lists that an update replaces: those it has, be they empty. Before 1.55 it changes none, whatever it says.
pub fn device_lists(fields: &mut Map<String, Value>, version: ApiVersion) -> Vec<DeviceList> {
    if version < ApiVersion(1, 55) {
        LISTS.iter().for_each(|(name, _)| drop(fields.remove(*name)));
    }
    LISTS.iter().filter(|(name, _)| fields.contains_key(*name)).map(|(_, list)| *list).collect()
}

/// The limits as inspect shows them.
pub fn show(resources: &Resources) -> Value {
    let list = |rates: &[DeviceRate], key: &str| match rates {
        [] => Value::Null,
        rates => rates.iter().map(|rate| json!({ "Path": rate.path, key: rate.rate })).collect(),
    };
    let rates = |rates: &[DeviceRate]| list(rates, "Rate");
    json!({
        "Memory": resources.memory, "MemorySwap": resources.memory_swap,
        "MemoryReservation": resources.memory_reservation, "MemorySwappiness": null, "OomKillDisable": null,
        "NanoCpus": resources.nano_cpus, "CpuShares": resources.cpu_shares, "CpuPeriod": resources.cpu_period,
        "CpuQuota": resources.cpu_quota, "CpusetCpus": resources.cpuset_cpus, "CpusetMems": resources.cpuset_mems,
        "PidsLimit": resources.pids_limit, "BlkioWeight": resources.blkio_weight,
        "BlkioWeightDevice": list(&resources.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": rates(&resources.blkio_read_bps),
        "BlkioDeviceWriteBps": rates(&resources.blkio_write_bps),
        "BlkioDeviceReadIOps": rates(&resources.blkio_read_iops),
        "BlkioDeviceWriteIOps": rates(&resources.blkio_write_iops),
    })
}
