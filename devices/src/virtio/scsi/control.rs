//! Task management functions (virtio 1.2 §5.6.6.2). A request to the host cannot be called back,
//! so a function that ends tasks answers when the last of them has ended.

use super::spec::{Address, T_AN_QUERY, T_AN_SUBSCRIBE, T_TMF, response, tmf};
use super::worker::ScsiWorker;
use crate::virtio::{ActiveQueue, Chain, Place};

/// A function that waits for the tasks it ended.
pub(super) struct Function {
    number: u64,
    chain: Chain,
    place: Place,
}

/// What a function says: subtype, unit, and for some the task.
struct Request {
    subtype: u32,
    address: Option<Address>,
    id: u64,
}

impl ScsiWorker {
    pub(super) fn control(&mut self, mut chain: Chain, queue: &mut ActiveQueue) {
        let mut kind = [0; 4];
        if !chain.read(&mut kind) {
            return queue.fail(chain, "a control request has no type");
        }
        match u32::from_le_bytes(kind) {
            T_TMF => self.function(chain, queue),
            T_AN_QUERY | T_AN_SUBSCRIBE => {
                // No event of a medium is sent: all are polled for.
                let Some(place) = chain.split_writable(5) else {
                    return queue.fail(chain, "a control request has no room for its response");
                };
                place.write(queue.ram(), &[0, 0, 0, 0, response::OK]);
                queue.complete(chain, 5);
            }
            _ => {
                let Some(place) = chain.split_writable(1) else {
                    return queue.fail(chain, "a control request has no room for its response");
                };
                place.write(queue.ram(), &[response::FAILURE]);
                queue.complete(chain, 1);
            }
        }
    }

    fn function(&mut self, mut chain: Chain, queue: &mut ActiveQueue) {
        let mut body = [0; 20];
        let read = chain.read(&mut body);
        let Some(place) = chain.split_writable(1).filter(|_| read) else {
            return queue.fail(chain, "a function has no room for request and response");
        };
        let [s0, s1, s2, s3, l0, l1, l2, l3, l4, l5, l6, l7, id @ ..] = body;
        let request = Request {
            subtype: u32::from_le_bytes([s0, s1, s2, s3]),
            address: Address::parse([l0, l1, l2, l3, l4, l5, l6, l7]),
            id: u64::from_le_bytes(id),
        };
        let number = self.next_function;
        self.next_function += 1;
        match self.carry_out(&request, number) {
            // Answered with the last of its tasks, which may be at once.
            Ok(()) => self.functions.push(Function { number, chain, place }),
            Err(code) => {
                place.write(queue.ram(), &[code]);
                queue.complete(chain, 1);
            }
        }
    }

    /// End the tasks that `request` speaks of; `Err` is an answer that waits for nothing.
    fn carry_out(&mut self, request: &Request, number: u64) -> Result<(), u8> {
        let address = request.address.ok_or(response::BAD_TARGET)?;
        if !self.has_target(address.target) {
            return Err(response::BAD_TARGET);
        }
        if request.subtype == tmf::I_T_NEXUS_RESET {
            self.end(number, response::RESET, |at, _| at.target == address.target);
            for (_, unit) in self.units().filter(|(at, _)| at.target == address.target) {
                unit.reset();
            }
            return Ok(());
        }
        let position = self.position(address).ok_or(response::INCORRECT_LUN)?;
        let id = request.id;
        match request.subtype {
            tmf::ABORT_TASK => {
                self.end(number, response::ABORTED, |at, task| at == address && task == id);
            }
            tmf::ABORT_TASK_SET | tmf::CLEAR_TASK_SET => {
                self.end(number, response::ABORTED, |at, _| at == address);
            }
            tmf::LOGICAL_UNIT_RESET => {
                self.end(number, response::RESET, |at, _| at == address);
                if let Some(unit) = self.unit(position) {
                    unit.reset();
                }
            }
            tmf::QUERY_TASK => {
                let found = self.tasks().any(|task| task.address == address && task.id == id);
                return Err(if found { response::FUNCTION_SUCCEEDED } else { response::OK });
            }
            tmf::QUERY_TASK_SET => {
                let found = self.tasks().any(|task| task.address == address);
                return Err(if found { response::FUNCTION_SUCCEEDED } else { response::OK });
            }
            _ => return Err(response::FUNCTION_REJECTED),
        }
        Ok(())
    }

    fn end(&mut self, number: u64, code: u8, which: impl Fn(Address, u64) -> bool) {
        for task in self.tasks().filter(|task| which(task.address, task.id)) {
            // The first says how: the later ones wait as well.
            task.ended.get_or_insert((number, code));
        }
    }

    /// Answer the functions whose tasks have all ended.
    pub(super) fn finish_functions(&mut self, queues: &mut [ActiveQueue]) {
        if self.functions.is_empty() {
            return;
        }
        // Tasks count for the function that ended them first, so later ones wait for it too.
        let oldest = self.tasks().filter_map(|task| task.ended).map(|(number, _)| number).min();
        let Some(queue) = self.control_queue(queues) else { return };
        let functions = std::mem::take(&mut self.functions);
        for function in functions {
            if oldest.is_some_and(|oldest| function.number >= oldest) {
                self.functions.push(function);
                continue;
            }
            function.place.write(queue.ram(), &[response::OK]);
            queue.complete(function.chain, 1);
        }
    }
}
