"""Put this program to faults, bad input and hostile files, and count what is lost: nothing may be.

python benchmarks/faults.py            all rows, under half an hour on 2 cores; make faults does it
python benchmarks/faults.py ROW ...    these rows; the others stay as they were counted
python benchmarks/faults.py --table    the README's table, from benchmarks/results/faults.json

Each case is a process of its own: what users run, in an empty folder. What counts as lost: a
traceback, more than one line for an error, a hang, more seconds or memory than the row allows, a
file half written or changed that should not be, code run, another result than without the fault.
"""
