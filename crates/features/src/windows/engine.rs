//! The engine: events in, closed windows and look-ups out.

use super::event::{Event, Value};
use super::key::Key;
use super::outcome::{Counters, LookupError, Partition, PartitionWatermark, Pushed, Sizes, Window};
use crate::FeatureError;
use vocabulary::stream::{StreamFeature, StreamSpec};
use vocabulary::time::Timestamp;

/// The state of a stream's windows. The same calls in the same order give the same state to the last byte, whatever was
/// written with [`Engine::to_bytes`] and read back in between.
pub struct Engine {
    spec: StreamSpec,
}

impl Engine {
    /// Fails where the declaration has problems; a stream with a contract goes through `StreamSpec::with_contract` first.
    pub fn new(spec: &StreamSpec) -> Result<Engine, FeatureError> {
        Ok(Engine { spec: spec.clone() })
    }

    pub fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    /// The columns whose values an event brings, in order.
    pub fn columns(&self) -> &[String] {
        unimplemented!()
    }

    /// What a look-up gives, in order.
    pub fn features(&self) -> &[StreamFeature] {
        unimplemented!()
    }

    /// The partition of this name; a new one holds the watermark back until it has brought an event, is idle or ended.
    pub fn partition(&mut self, _name: &str) -> Partition {
        unimplemented!()
    }

    /// Takes an event in. Everything that the watermark passes by it is emitted at once.
    pub fn push(&mut self, _partition: Partition, _event: &Event) -> Pushed {
        unimplemented!()
    }

    /// The partition has brought nothing for `idle_after`, says who calls. Its next event makes it active again.
    pub fn idle(&mut self, _partition: Partition) {
        unimplemented!()
    }

    /// The partition will bring nothing more (a file read to its end). When all have ended, every window closes, and what
    /// is pushed after that is too late: for bounded data alone.
    pub fn end(&mut self, _partition: Partition) {
        unimplemented!()
    }

    /// What was emitted since the last call, in order of emission. Commit it together with the state: what is not taken
    /// is part of the state's bytes.
    pub fn take_emitted(&mut self) -> Vec<Window> {
        unimplemented!()
    }

    /// Puts the features of a key at an instant into `row`, in the order of [`Engine::features`]: of what has been pushed
    /// so far, events before `at` alone. A key never seen gives the values of empty windows.
    pub fn lookup(&self, _key: &Key, _at: Timestamp, _row: &mut Vec<Value>) -> Result<(), LookupError> {
        unimplemented!()
    }

    /// Before this no event is expected; `Timestamp::MIN` before the first.
    pub fn watermark(&self) -> Timestamp {
        unimplemented!()
    }

    /// The partitions in the order in which they were named.
    pub fn watermarks(&self) -> Vec<PartitionWatermark> {
        unimplemented!()
    }

    pub fn counters(&self) -> &Counters {
        unimplemented!()
    }

    pub fn sizes(&self) -> Sizes {
        unimplemented!()
    }

    /// The whole state, in a form that carries a version.
    pub fn to_bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Fails where the bytes are damaged, of another version, or of a stream with another declaration of its windows.
    pub fn from_bytes(_spec: &StreamSpec, _bytes: &[u8]) -> Result<Engine, FeatureError> {
        unimplemented!()
    }
}
