"""Code shared by the scripts, in one room for each step of the way.

data        photographs -> arrays
training    arrays -> model; the only room that imports Keras as it is imported
prediction  model -> probabilities
evaluation  how good a model is
export      model -> other runtimes

What all rooms stand on lies beside them: the architecture as data, Keras' backend, errors, command
lines, files, seeds, the processor and work on all its cores.
"""

__version__ = "0.2.0"
