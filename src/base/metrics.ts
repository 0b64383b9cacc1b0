/** What a module needs to count things. Metrics are defined beside the code that moves them; `src/node` exports them. */
export interface Counter {
  add(amount: number): void;
}

export interface Gauge {
  set(value: number): void;
}

export interface Metrics {
  /** `name` follows Prometheus' rules and ends in its unit or `_total`. Asking twice for a name gives the same one. */
  counter(name: string, help: string): Counter;
  gauge(name: string, help: string): Gauge;
}

const nothing = { add() {}, set() {} };

export const noMetrics: Metrics = { counter: () => nothing, gauge: () => nothing };
