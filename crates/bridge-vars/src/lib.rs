//! Variables, state trees and filters for candle.
