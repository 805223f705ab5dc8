//! The host's NUMA cells and their pages, and pages that guests share.

use management::ops::{AllocatePages, Cell, Cells, GetSharedMemory, ListCells, TuneSharedMemory};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::typed::{Parameter, Parameters, Value};
use super::Client;

/// What libvirt answers about at once.
const MOST: usize = 1024;

async fn cells(client: &Client) -> Result<Vec<Cell>, Failure> {
    client.ask(Area::Node, ListCells).await
}

/// Of each cell from the first on, bytes.
pub(crate) async fn cells_free_memory(
    client: Client,
    (first, room): (i32, i32),
) -> Result<Vec<u64>, Failure> {
    let found = cells(&client).await?;
    let asked = u32::try_from(first).ok().zip(usize::try_from(room).ok().filter(|room| *room > 0));
    let Some((first, room)) = asked.filter(|(first, _)| found.iter().any(|cell| cell.id >= *first))
    else {
        let last = found.last().map_or(0, |cell| cell.id);
        let text = format!("there are cells 0 to {last}, and none from {first} on");
        return Err(Failure::invalid_argument(Area::Node, &text));
    };
    let from = found.iter().filter(|cell| cell.id >= first).take(room);
    Ok(from.map(|cell| cell.free.saturating_mul(1024)).collect())
}

/// Cell after cell, in each the sizes in the order in which they are asked for.
pub(crate) async fn free_pages(
    client: Client,
    (sizes, first, count, flags): (Vec<u32>, i32, u32, u32),
) -> Result<Vec<u64>, Failure> {
    known_flags(flags, 0, "virNodeGetFreePages")?;
    let invalid = |text: &str| Err(Failure::invalid_argument(Area::Node, text));
    if sizes.len().saturating_mul(count as usize) > MOST {
        return invalid("so many numbers fit in no answer");
    }
    let found = cells(&client).await?;
    let mut answer = Vec::new();
    for at in 0..i64::from(count) {
        let id = i64::from(first) + at;
        let Some(cell) = found.iter().find(|cell| i64::from(cell.id) == id) else {
            // As many as there are, and one at least.
            match at {
                0 => return invalid(&format!("there is no cell {id}")),
                _ => break,
            }
        };
        for size in &sizes {
            let pages = cell.pages.iter().find(|pages| pages.size == u64::from(*size));
            let Some(pages) = pages else {
                return invalid(&format!("cell {id} has no pages of {size} KiB"));
            };
            answer.push(pages.free);
        }
    }
    Ok(answer)
}

pub(crate) async fn allocate_pages(
    client: Client,
    (sizes, counts, first, count, flags): (Vec<u32>, Vec<u64>, i32, u32, u32),
) -> Result<i32, Failure> {
    const SET: u32 = 1;
    known_flags(flags, SET, "virNodeAllocPages")?;
    if sizes.len() != counts.len() || sizes.len() > MOST {
        let text = format!("{} sizes of pages and {} numbers", sizes.len(), counts.len());
        return Err(Failure::invalid_argument(Area::Node, &text));
    }
    let cells = match u32::try_from(first) {
        Ok(first) => Cells::From(first, count),
        Err(_) => Cells::Whole,
    };
    let pages = sizes.into_iter().map(u64::from).zip(counts).collect();
    let done =
        client.ask(Area::Node, AllocatePages { cells, pages, add: flags & SET == 0 }).await?;
    Ok(i32::try_from(done).unwrap_or(i32::MAX))
}

const TO_SCAN: &str = "shm_pages_to_scan";
const SLEEP: &str = "shm_sleep_millisecs";
const ACROSS: &str = "shm_merge_across_nodes";

pub(crate) async fn shared(
    client: Client,
    (room, flags): (i32, u32),
) -> Result<(Parameters, i32), Failure> {
    known_flags(flags, STRING_OKAY, "virNodeGetMemoryParameters")?;
    let found = client.ask(Area::Node, GetSharedMemory).await?;
    let mut parameters = Parameters::default();
    let numbers = [(TO_SCAN, found.pages_to_scan), (SLEEP, found.sleep_millisecs)];
    let counts = [
        ("shm_pages_shared", found.pages_shared),
        ("shm_pages_sharing", found.pages_sharing),
        ("shm_pages_unshared", found.pages_unshared),
        ("shm_pages_volatile", found.pages_volatile),
        ("shm_full_scans", found.full_scans),
    ];
    for (name, number) in numbers.into_iter().filter_map(|(name, of)| Some((name, of?))) {
        parameters.uint(name, number);
    }
    for (name, number) in counts.into_iter().filter_map(|(name, of)| Some((name, of?))) {
        parameters.ullong(name, number);
    }
    if let Some(number) = found.merge_across_nodes {
        parameters.uint(ACROSS, number);
    }
    Ok(parameters.within(room))
}

/// Strings among typed parameters: there are none.
const STRING_OKAY: u32 = 4;

pub(crate) async fn tune_shared(
    client: Client,
    (parameters, flags): (Vec<Parameter>, u32),
) -> Result<(), Failure> {
    known_flags(flags, STRING_OKAY, "virNodeSetMemoryParameters")?;
    let mut tune = TuneSharedMemory::default();
    for Parameter { field, value } in parameters {
        let wrong = |what: &str| {
            Err(Failure::invalid_argument(Area::Node, &format!("parameter {field:?} {what}")))
        };
        let place = match field.as_ref() {
            TO_SCAN => &mut tune.pages_to_scan,
            SLEEP => &mut tune.sleep_millisecs,
            ACROSS => &mut tune.merge_across_nodes,
            _ => return wrong("cannot be set"),
        };
        let Value::Uint(value) = value else { return wrong("is an unsigned number") };
        *place = Some(value);
    }
    client.ask(Area::Node, tune).await
}
