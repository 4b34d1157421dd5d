// The functions of the server. manysocket-server has written this file: changes get lost.

export interface Functions {
  countdown(from: number): AsyncIterable<number>;
  tasks: {
    add(title: string, priority: Priority): Task;
    all(): Array<Task>;
  };
}

/**
 * How much a task matters.
 */
export type Priority = "low" | "high";

/**
 * A task of the list.
 */
export type Task = { title: string, priority: Priority, 
/**
 * Its place in the list, counted from 1.
 */
number: number, };
